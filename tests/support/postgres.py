"""A PostgreSQL server of the test's own, on a free port of the host's loopback: user, password and database `shop`."""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import time

READY_S = 60


def programs():
    """The folder of Debian's server programs, the newest; or None."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    return os.path.dirname(found[-1]) if found else None


def refused():
    """Why no server can run here, or None."""
    if programs() is None:
        return "no PostgreSQL server here (Debian: postgresql)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL does not run as root, and there is no user postgres"
    return None


class Postgres:
    def __init__(self, home):
        self.home = home / "postgres"
        self.home.mkdir()
        self.run_as = None
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            self.run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.home, user.pw_uid, user.pw_gid)
            # The way there must be open to it.
            for folder in [self.home, *self.home.parents]:
                if not os.stat(folder).st_mode & 0o001:
                    os.chmod(folder, os.stat(folder).st_mode | 0o011)
        data, password = self.home / "data", self.home / "password"
        password.write_text("secret\n")
        password.chmod(0o644)
        options = ["--auth=scram-sha-256", "--username=shop", f"--pwfile={password}", "--no-sync", "--no-locale", "-E", "UTF8"]
        self.call("initdb", "-D", data, *options)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", f"unix_socket_directories={self.home}"]
        command = [f"{programs()}/postgres", "-D", data, "-p", str(self.port), *settings]
        self.log = open(self.home / "log", "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, cwd=self.home, **(self.run_as or {}))
        self.wait()
        self.query("CREATE DATABASE shop", "postgres")

    def call(self, program, *words, **more):
        command = [f"{programs()}/{program}", *map(str, words)]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.home, **(self.run_as or {}), **more)

    def wait(self):
        deadline = time.monotonic() + READY_S
        while True:
            try:
                return self.query("SELECT 1", "postgres")
            except subprocess.CalledProcessError as error:
                assert self.process.poll() is None and time.monotonic() < deadline, error.stderr
                time.sleep(0.1)

    def query(self, text, database="shop"):
        """Rows as lines, columns with `|` between them."""
        address = ["-h", "127.0.0.1", "-p", self.port, "-U", "shop", "-d", database]
        return self.call("psql", "-XAt", *address, "-c", text, env={"PGPASSWORD": "secret"}).stdout.splitlines()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)
