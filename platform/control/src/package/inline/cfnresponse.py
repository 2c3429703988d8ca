"""Answers a custom resource's request, as CloudFormation's module of this name does. Inline code alone has it.

Source: CloudFormation User Guide, "`cfn-response` module", published: the arguments, the document, that a failure is printed and
not raised. The URL may have any port, and plain HTTP, so that a test can take the answer.
"""
import json
import urllib.error
import urllib.request

SUCCESS = "SUCCESS"
FAILED = "FAILED"


def send(event, context, responseStatus, responseData, physicalResourceId=None, noEcho=False, reason=None):
    body = json.dumps({
        "Status": responseStatus,
        "Reason": reason or f"See the details in CloudWatch Log Stream: {context.log_stream_name}",
        "PhysicalResourceId": physicalResourceId or context.log_stream_name,
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "NoEcho": noEcho,
        "Data": responseData,
    })
    print("Response body:")
    print(body)
    # The signature of the URL covers an empty content type.
    request = urllib.request.Request(
        event["ResponseURL"], body.encode(), {"Content-Type": ""}, method="PUT"
    )
    try:
        with urllib.request.urlopen(request) as response:
            print("Status code:", response.status)
    except urllib.error.HTTPError as error:
        print("Status code:", error.code)
    except Exception as error:
        print("send(..) failed executing http.request(..):", error)
