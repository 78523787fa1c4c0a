"""The exported model as TF Serving runs it, and the documented clients against it.

No TF Serving is needed: `Served` loads the SavedModel the way its ModelServer does, into a session
fed by the tensor names of the signature, and is reached over real gRPC and HTTP.
"""

import base64
import concurrent.futures
import http.server
import importlib.util
import json
import pathlib
import re
import shlex
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.python.framework import op_def_registry

import keras_gen as kg
from tests.conformance.cases import digits, mlp_gan

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def model():
    """Trained a little, so that its weights differ from their averages."""
    model = mlp_gan((8, 8, 1), 10)
    model.compile()
    model.fit(digits().batches(64, seed=0), epochs=2, verbose=0)
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models") / "digits"
    model.export(folder / "1", verbose=False)
    return folder


class Served:
    """One version of a SavedModel in a session, as in TF Serving."""

    def __init__(self, directory):
        graph = tf.Graph()
        with graph.as_default():
            self.session = tf.compat.v1.Session()
            self.meta = tf.compat.v1.saved_model.load(self.session, ["serve"], str(directory))

    def predict(self, signature, inputs):
        signature = self.meta.signature_def[signature]
        assert signature.method_name == "tensorflow/serving/predict"
        return self.session.run(
            {name: info.name for name, info in signature.outputs.items()},
            {signature.inputs[name].name: value for name, value in inputs.items()},
        )

    def predict_json(self, request):
        """The REST API of TF Serving, as its documentation describes it."""
        name = request.get("signature_name", "serving_default")
        types = self.meta.signature_def[name].inputs
        rows = request.get("instances")
        columns = request.get("inputs") or {key: [row[key] for row in rows] for key in types}
        arrays = {
            key: np.array(columns[key], tf.as_dtype(info.dtype).as_numpy_dtype)
            for key, info in types.items()
        }
        ((name, values),) = self.predict(name, arrays).items()
        if name.endswith("_bytes"):
            values = [{"b64": base64.b64encode(value).decode()} for value in values]
        else:
            values = values.tolist()
        return {"outputs" if rows is None else "predictions": values}


@pytest.fixture(scope="module")
def served(folder):
    return Served(folder / "1")


@pytest.fixture(scope="module")
def grpc_server(served):
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            if request.model_spec.name != "digits":
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
            inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            try:
                outputs = served.predict(request.model_spec.signature_name, inputs)
            except tf.errors.InvalidArgumentError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
            response = predict_pb2.PredictResponse()
            for name, value in outputs.items():
                dtype = tf.string if value.dtype == object else None
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
            return response

    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def rest_server(served):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                assert self.path == "/v1/models/digits:predict"
                status, answer = 200, served.predict_json(request)
            except tf.errors.InvalidArgumentError as error:
                status, answer = 400, {"error": error.message}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def client():
    spec = importlib.util.spec_from_file_location("serving_client", DOCS / "serving_client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(count, start=0):
    seeds = np.arange(start, start + count, dtype=np.int64)
    return {"seed": seeds, "label": (seeds % 10).astype(np.int32)}


# What is in the export


def test_holds_the_averaged_generator_and_nothing_else(model, folder):
    prefix = str(folder / "1" / "variables" / "variables")
    reader = tf.train.load_checkpoint(prefix)
    saved = [
        reader.get_tensor(name)
        for name, _ in tf.train.list_variables(prefix)
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    ]
    assert sum(array.size for array in saved) == model.generator.count_params()
    assert all(array.dtype == np.float32 for array in saved)
    averages = [average.numpy() for average, _ in model.averages.pairs]
    weights = [np.asarray(weight) for weight in model.generator.weights]
    assert any((a != w).any() for a, w in zip(averages, weights))

    def key(array):
        return array.shape, array.tobytes()

    assert sorted(map(key, saved)) == sorted(map(key, averages))
    data = sum(path.stat().st_size for path in (folder / "1" / "variables").glob("*.data-*"))
    assert data < 4 * model.generator.count_params() + 2**15  # and the names of the objects


def test_signatures_have_no_state(served):
    graph = served.meta.graph_def
    by_name = {function.signature.name: function for function in graph.library.function}
    signatures = [name for name in by_name if re.search("serving_default|png_bytes", name)]
    assert signatures
    served_ops, waiting = set(), [by_name[name] for name in signatures]
    while waiting:
        function = waiting.pop()
        for node in function.node_def:
            served_ops.add(node.op)
            for attribute in node.attr.values():
                called = [attribute.func.name, *(f.name for f in attribute.list.func)]
                waiting += [by_name.pop(name) for name in called if name in by_name]
    # Stateful are only what reads a weight, checks a label, or calls a function that does.
    calls = {"StatefulPartitionedCall", "While", "If"}
    stateful = {op for op in served_ops if op_def_registry.get(op).is_stateful}
    assert stateful <= {"ReadVariableOp", "Assert"} | calls, stateful
    assert "StatelessRandomNormalV2" in served_ops


def test_the_same_request_has_the_same_answer(served):
    for signature in ("serving_default", "png_bytes"):
        (first,) = served.predict(signature, rows(5)).values()
        served.predict(signature, rows(3, start=9))
        (second,) = served.predict(signature, rows(5)).values()
        np.testing.assert_array_equal(first, second)


# Batches


@pytest.mark.parametrize("count", [0, 1, 16, 1000])
def test_any_number_of_rows(count, model, served):
    (images,) = served.predict("serving_default", rows(count)).values()
    np.testing.assert_array_equal(images, model.generate(count, rows(count)["label"], seed=0))
    (png,) = served.predict("png_bytes", rows(count)).values()
    assert len(png) == count


@pytest.mark.parametrize("signature", ["serving_default", "png_bytes"])
def test_requests_merged_and_padded_by_the_server_have_the_same_answers(signature, served):
    requests = [rows(3), rows(7, start=100), rows(1, start=3)]
    merged = {key: np.concatenate([r[key] for r in requests]) for key in requests[0]}
    # TF Serving repeats the last request's first row up to the next allowed batch size.
    padded = {k: np.concatenate([v, np.repeat(v[10:11], 5)]) for k, v in merged.items()}
    (together,) = served.predict(signature, padded).values()
    assert len(together) == 16
    for request, part in zip(requests, np.split(together[:11], [3, 10])):
        (alone,) = served.predict(signature, request).values()
        np.testing.assert_array_equal(alone, part)


# Errors


@pytest.mark.parametrize(
    ("seed", "label", "message"),
    [
        ([0, 1], [3, 10], r"Labels must lie in \[0, 10\). Received:\] \[3 10\]"),
        ([0], [-1], r"Labels must lie in \[0, 10\). Received:\] \[-1\]"),
        ([0, 1], [3], r"There must be one label for each seed. Received rows:\] \[2\] \[1\]"),
        ([], [3], r"There must be one label for each seed. Received rows:\] \[0\] \[1\]"),
    ],
)
def test_bad_rows_are_refused_clearly(seed, label, message, served):
    inputs = {"seed": np.array(seed, np.int64), "label": np.array(label, np.int32)}
    for signature in ("serving_default", "png_bytes"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            served.predict(signature, inputs)
    assert len(served.predict("serving_default", rows(2))["images"]) == 2  # and it goes on


# gRPC


def test_grpc(client, grpc_server, model):
    grpc = pytest.importorskip("grpc")
    for count in (0, 1, 1000):
        inputs = rows(count)
        answer = client.predict_grpc(grpc_server, "digits", "serving_default", inputs)
        assert set(answer) == {"images"} and answer["images"].dtype == np.uint8
        expected = model.generate(count, inputs["label"], seed=0)
        np.testing.assert_array_equal(answer["images"], expected)
    with pytest.raises(grpc.RpcError, match=r"Labels must lie in \[0, 10\)") as error:
        bad = {"seed": np.array([0]), "label": np.array([10], np.int32)}
        client.predict_grpc(grpc_server, "digits", "serving_default", bad)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_client_writes_pngs(client, grpc_server, model, tmp_path):
    client.main(["--server", grpc_server, "--labels", "3", "1", "4", "--out", str(tmp_path)])
    check_pngs(tmp_path, model)


# REST


def test_rest_client_writes_pngs(client, rest_server, model, tmp_path):
    client.main(
        ["--rest", "--server", rest_server, "--labels", "3", "1", "4", "--out", str(tmp_path)]
    )
    check_pngs(tmp_path, model)
    with pytest.raises(RuntimeError, match=r"Labels must lie in \[0, 10\)"):
        client.predict_rest(rest_server, "digits", "serving_default", [{"seed": 0, "label": 10}])


def check_pngs(folder, model):
    images = model.generate(3, [3, 1, 4], seed=0)
    for seed, image in enumerate(images):
        path = folder / f"{seed}.png"
        np.testing.assert_array_equal(tf.io.decode_png(path.read_bytes()), image)
        provenance = kg.images.read_provenance(path)
        assert provenance["Seed"] == str(seed)
        assert model.weights_hash().startswith(provenance["Weights"])
    assert len(list(folder.iterdir())) == 3


def blocks(language):
    """The code blocks of docs/serving.md in one language."""
    text = (DOCS / "serving.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_documented_json(served, model):
    requests = re.findall(r"-d '(.*?)'", "".join(blocks("bash")), re.DOTALL)
    rows, columns, pngs = (served.predict_json(json.loads(request)) for request in requests)
    expected = model.generate(2, [3, 7], seed=0).tolist()
    assert rows == {"predictions": expected}
    assert columns == {"outputs": expected}
    files = [base64.b64decode(row["b64"]) for row in pngs["predictions"]]
    assert [tf.io.decode_png(file).numpy().tolist() for file in files] == expected


def test_documented_curl_writes_pngs(rest_server, model, tmp_path):
    (command,) = (block for block in blocks("bash") if "b64decode" in block)
    command = command.replace("localhost:8501", rest_server)
    command = command.replace("python -c", f"{shlex.quote(sys.executable)} -c")
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True, timeout=60)
    for seed, image in enumerate(model.generate(2, [3, 7], seed=0)):
        file = (tmp_path / f"{seed}.png").read_bytes()
        np.testing.assert_array_equal(tf.io.decode_png(file), image)


def test_documented_models_config():
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")
    from tensorflow_serving.config import model_server_config_pb2

    (config,) = (block for block in blocks("proto") if "model_config_list" in block)
    parsed = text_format.Parse(config, model_server_config_pb2.ModelServerConfig())
    assert parsed.model_config_list.config[0].name == "digits"


# saved_model_cli


def saved_model_cli(*arguments):
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_saved_model_cli_show(folder):
    shown = saved_model_cli("show", "--dir", str(folder / "1"), "--all").stdout
    (documented,) = (block for block in blocks("text") if "signature_def" in block)
    for line in documented.splitlines():
        assert line == "..." or line in shown.splitlines(), line


def test_saved_model_cli_run(folder, model, tmp_path):
    command = next(
        line for block in blocks("bash") for line in block.splitlines() if "--outdir" in line
    )
    command = command.replace("saved_models/digits/1", str(folder / "1"))
    arguments = shlex.split(command.replace("--outdir samples", f"--outdir {tmp_path}"))
    result = saved_model_cli(*arguments[1:])
    assert result.returncode == 0, result.stderr
    images = np.load(tmp_path / "images.npy")
    np.testing.assert_array_equal(images, model.generate(2, [3, 7], seed=0))


# New versions


def test_a_version_appears_whole(model, folder, monkeypatch):
    seen = []

    def save(module, path, signatures):
        tf.io.gfile.makedirs(path)
        seen.extend(entry.name for entry in folder.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(KeyboardInterrupt):
        model.export(folder / "2", verbose=False)
    assert any(name.startswith(".2-") for name in seen) and "2" not in seen
    assert [entry.name for entry in folder.iterdir()] == ["1"]


def test_mixed_precision_is_served_too(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = mlp_gan((8, 8, 1), 10)
    model.export(tmp_path / "1", verbose=False)
    (images,) = Served(tmp_path / "1").predict("serving_default", rows(3)).values()
    np.testing.assert_array_equal(images, model.generate(3, [0, 1, 2], seed=0))
