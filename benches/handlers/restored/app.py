# INIT takes two seconds, as with a large framework; the handler says how its environment was made.
import os
import time

time.sleep(2)


def handler(event, context):
    return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
