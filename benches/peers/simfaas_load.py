"""Prints how many requests a second SimFaaS simulates: its own example load."""
import contextlib
import io
import time

from simfaas.ServerlessSimulator import ServerlessSimulator

simulator = ServerlessSimulator(
    arrival_rate=0.9, warm_service_rate=1 / 1.991, cold_service_rate=1 / 2.244, expiration_threshold=600, max_time=3e4
)
begun = time.time()
with contextlib.redirect_stdout(io.StringIO()):
    simulator.generate_trace(debug_print=False, progress=False)
print(simulator.total_req_count / (time.time() - begun))
