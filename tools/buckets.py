"""Runs a model out of a bucket of moto, the stand-in for S3 of the Python registry, and compares the results with those of its folder.

    pip install 'moto[server]' boto3
    python tools/buckets.py target/release/sli MODEL DATA.jsonl
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

RESULTS = ["scores.parquet", "profile.parquet"]


def main(sli: str, model: Path, data: Path) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    account = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1"}
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="eu-west-1",
    )
    s3.create_bucket(Bucket="box", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for path in sorted(model.rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), "box", f"models/it/{path.relative_to(model)}")
    s3.upload_file(str(data), "box", "data/it.jsonl")
    # A folder as consoles make one, and more files than a page of a list has.
    s3.put_object(Bucket="box", Key="models/it/empty/", Body=b"")
    for number in range(1100):
        s3.put_object(Bucket="box", Key=f"models/it/logs/{number}.txt", Body=b"x")

    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"},
            **account,
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "XDG_CACHE_HOME": folder,
            "HF_HOME": folder,
        }
        ways = {
            "folder": (str(model), str(data), []),
            "bucket": ("s3://box/models/it", "s3://box/data/*.jsonl", []),
            "stream": ("s3://box/models/it/", "s3://box/data/it.jsonl", ["--stream"]),
        }
        found = {}
        for way, (named, records, more) in ways.items():
            out = Path(folder, way)
            takes = ["--take", "scores", "--take", "profile"]
            command = [sli, "run", named, "--input", records, *takes, "--out", str(out), *more]
            subprocess.run(command, env=environment, check=True)
            found[way] = [(out / name).read_bytes() for name in RESULTS]
        assert found["bucket"] == found["folder"] and found["stream"] == found["folder"]
    server.stop()
    print("the same results")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
