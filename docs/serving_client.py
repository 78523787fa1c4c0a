"""Asks a served model for PNG files: `python docs/serving_client.py --labels 0 1 2 3`.

Over gRPC (needs `pip install tensorflow-serving-api`), or with `--rest` over HTTP and JSON, for
which Python alone suffices.
"""

import argparse
import base64
import json
import pathlib
import urllib.error
import urllib.request


def predict_grpc(server, model, signature, inputs, timeout=60.0):
    """Calls `PredictionService.Predict`.

    Args:
        server: "host:port" of gRPC, such as "localhost:8500".
        model: name of the served model.
        signature: name of its signature.
        inputs: dict from the input's name to a NumPy array of exactly its type.
        timeout: seconds.

    Returns:
        dict from the output's name to a NumPy array.

    Raises:
        grpc.RpcError: with the server's message in `details()`.
    """
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    # A thousand images are more than gRPC's 4 MB.
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=timeout)
    return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


def predict_rest(server, model, signature, instances, timeout=60.0):
    """Calls the REST API with rows.

    Args:
        server: "host:port" of HTTP, such as "localhost:8501".
        model: name of the served model.
        signature: name of its signature.
        instances: list with a dict from the input's name to its value for each row.
        timeout: seconds.

    Returns:
        list with the output of each row; bytes where it is `{"b64": ...}`.

    Raises:
        RuntimeError: with the server's message.
    """
    body = json.dumps({"signature_name": signature, "instances": instances}).encode()
    url = f"http://{server}/v1/models/{model}:predict"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            predictions = json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(json.load(error)["error"]) from None
    return [
        base64.b64decode(row["b64"]) if isinstance(row, dict) and "b64" in row else row
        for row in predictions
    ]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", help="default: localhost:8500, with --rest localhost:8501")
    parser.add_argument("--model", default="digits")
    parser.add_argument("--rest", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the first image; then seed + 1 ...")
    parser.add_argument("--labels", type=int, nargs="+", help="one image for each")
    parser.add_argument("--count", type=int, default=8, help="images of a model without classes")
    parser.add_argument("--out", default="served", help="folder of the PNG files")
    args = parser.parse_args(argv)

    count = len(args.labels) if args.labels else args.count
    columns = {"seed": list(range(args.seed, args.seed + count))}
    if args.labels:
        columns["label"] = args.labels
    if args.rest:
        instances = [dict(zip(columns, row)) for row in zip(*columns.values())]
        files = predict_rest(args.server or "localhost:8501", args.model, "png_bytes", instances)
    else:
        import numpy as np

        inputs = {"seed": np.array(columns["seed"], np.int64)}
        if args.labels:
            inputs["label"] = np.array(args.labels, np.int32)
        answer = predict_grpc(args.server or "localhost:8500", args.model, "png_bytes", inputs)
        files = answer["png_bytes"]

    folder = pathlib.Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    for seed, png in zip(columns["seed"], files):
        (folder / f"{seed}.png").write_bytes(png)
    print(f"{len(files)} images are in {folder}")


if __name__ == "__main__":
    main()
