"""Switches rotation on with the official Python client, as a person's script does: for each key it reads the status
and, if rotation is off, enables it and sets the interval. It does not read back.

    python3 client.py URL PROJECT ACCESS_KEY_ID SECRET_ACCESS_KEY FILE THREADS

FILE has one key id a line. Prints as JSON: the duration of the calls, the process's CPU time and how much of it came
before the calls, and its peak memory.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkkms.v2 import (
    EnableKeyRotationRequest,
    KmsClient,
    OperateKeyRequestBody,
    ShowKeyRotationStatusRequest,
    UpdateKeyRotationIntervalRequest,
    UpdateKeyRotationIntervalRequestBody,
)

url, project, access_key, secret_key, file, threads = sys.argv[1:]
threads = int(threads)
INTERVAL = 90

with open(file, encoding="utf-8") as lines:
    keys = lines.read().split()

# One client for all threads, since only one client keeps its connections. By default it keeps 10; more threads would
# open new ones all the time.
config = HttpConfig.get_default_config()
config.pool_maxsize = threads
client = (
    KmsClient.new_builder()
    .with_http_config(config)
    .with_credentials(BasicCredentials(access_key, secret_key, project))
    .with_endpoint(url)
    .build()
)


def repair(key_id):
    body = OperateKeyRequestBody(key_id=key_id)
    if client.show_key_rotation_status(ShowKeyRotationStatusRequest(body=body)).key_rotation_enabled:
        return
    client.enable_key_rotation(EnableKeyRotationRequest(body=body))
    body = UpdateKeyRotationIntervalRequestBody(key_id=key_id, rotation_interval=INTERVAL)
    client.update_key_rotation_interval(UpdateKeyRotationIntervalRequest(body=body))


start_cpu = time.process_time()
begin = time.perf_counter()
with ThreadPoolExecutor(threads) as pool:
    # The list causes an error of any thread to be raised here.
    list(pool.map(repair, keys))
wall = time.perf_counter() - begin
cpu = time.process_time()

with open("/proc/self/status", encoding="utf-8") as lines:
    peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
print(json.dumps({"wall": wall, "cpu": cpu, "start_cpu": start_cpu, "peak_rss_mib": peak_kib / 1024}))
