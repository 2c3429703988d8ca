import boto9  # there is no such module
