"""Small SAM templates, written beside their code."""

import json
import shutil

from support import puppet, streamer
from support.paths import BUILT


def write(home, functions, resources=None):
    """A template of `{LogicalId: (kind, properties)}`; kind is `echo`, `rogue`, `puppet` or
    `streamer`. Answers its path."""
    home.chmod(0o755)
    all_resources = dict(resources or {})
    for name, (kind, properties) in functions.items():
        folder = home / name.lower()
        if kind == "puppet":
            puppet.place(folder)
        elif kind == "streamer":
            streamer.place(folder)
        else:
            shutil.copytree(BUILT / kind, folder)
        defaults = {
            "CodeUri": f"{folder.name}/",
            "Handler": "bootstrap",
            "Runtime": "provided.al2023",
            "FunctionName": name,
        }
        all_resources[name] = {"Type": "AWS::Serverless::Function", "Properties": defaults | properties}
    template = home / "app.json"
    template.write_text(
        json.dumps(
            {
                "AWSTemplateFormatVersion": "2010-09-09",
                "Transform": "AWS::Serverless-2016-10-31",
                "Resources": all_resources,
            }
        )
    )
    return template
