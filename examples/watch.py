#!/usr/bin/env python3
"""Creates, starts and watches a run through server reflection alone: no .proto files, no generated code.

    python3 -m venv venv && venv/bin/pip install grpcio grpcio-reflection
    TOKEN=$(cat key) venv/bin/python examples/watch.py +12125550123 +12125550124

TARGET names the server (default 127.0.0.1:50051, without TLS).
"""

import os
import random
import sys
import time
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory

# Reflection carries these; importing them first gives them their helpers (such as ToJsonString).
from google.protobuf import duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2  # noqa: F401
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "trunkline.v1.OutboundQueue"


class Client:
    """Calls methods by name, with the messages that the server describes."""

    def __init__(self, channel, token):
        self.channel = channel
        self.metadata = [("authorization", f"Bearer {token}")]
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.service = self.pool.FindServiceByName(SERVICE)

    def _method(self, name):
        method = self.service.methods_by_name[name]
        request = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)
        return f"/{SERVICE}/{name}", request, answer

    def call(self, name, **fields):
        path, request, answer = self._method(name)
        call = self.channel.unary_unary(path, request.SerializeToString, answer.FromString)
        return call(request(**fields), metadata=self.metadata, timeout=30)

    def stream(self, name, **fields):
        path, request, answer = self._method(name)
        call = self.channel.unary_stream(path, request.SerializeToString, answer.FromString)
        return call(request(**fields), metadata=self.metadata)


def state_name(progress):
    states = progress.DESCRIPTOR.fields_by_name["state"].enum_type
    return states.values_by_number[progress.state].name.removeprefix("RUN_STATE_").lower()


def watch(client, run_id):
    """Follows the run to its end, over cuts: each response carries the token to go on with."""
    token, failures = "", 0
    while True:
        try:
            for response in client.stream("WatchRun", run_id=run_id, resume_token=token):
                token, failures = response.resume_token, 0
                kind = response.WhichOneof("kind")
                if kind == "bookmark":
                    continue
                progress = response.snapshot.run.progress if kind == "snapshot" else response.events.progress
                counts = progress.counts
                ended = counts.completed + counts.failed + counts.canceled + counts.skipped + counts.expired
                what = [e.WhichOneof("kind") for e in response.events.events]
                print(f"revision {response.revision}: {state_name(progress)}, {ended}/{counts.total} {what}")
            return  # OK: the run's last event was the last response.
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                token = ""  # The token cannot be continued from: begin with a snapshot again.
            elif error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            failures += 1
            time.sleep(min(10, 0.2 * 2 ** failures) * random.uniform(0.5, 1))


def main():
    phones = sys.argv[1:] or sys.exit(__doc__)
    channel = grpc.insecure_channel(os.environ.get("TARGET", "127.0.0.1:50051"))
    client = Client(channel, os.environ["TOKEN"])
    created = client.call(
        "CreateRun",
        request_id=str(uuid.uuid4()),
        settings={"name": "From Python", "script": {"say": {"text": "Hello from Python."}}},
        jobs=[{"lead": {"phone": phone}} for phone in phones],
        seal=True,
    )
    for phone, result in zip(phones, created.results):
        print(f"{phone}: {result.error or 'job ' + result.job_id}")
    run_id = created.run.run_id
    client.call("StartRun", request_id=str(uuid.uuid4()), run_id=run_id)
    watch(client, run_id)


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
