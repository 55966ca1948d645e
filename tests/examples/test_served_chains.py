"""The router between served checkpoints, with two servers that say who they are."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cola_learn import ColaForCausalLM, Controller
from cola_learn.errors import UserError
from examples.served_chains import Router

PROMPTS = ["def primes(n):", "Once upon a time there was", "A train leaves at noon. How far does it get?"]


def serve(name: str) -> HTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = json.dumps({"choices": [{"text": f"{name}: {asked['prompt']}"}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    running = {chain: serve(chain) for chain in ("0-29", "0-16 18-29")}
    yield {chain: f"http://127.0.0.1:{server.server_port}" for chain, server in running.items()}
    for server in running.values():
        server.shutdown()


def test_prompts_go_to_the_chain_that_suits_them(servers: dict[str, str]) -> None:
    controller = Controller.from_pretrained("checkpoints/texts")
    router = Router(controller, servers, price=3.0)
    model = ColaForCausalLM.from_pretrained("checkpoints/texts")
    for prompt in PROMPTS:
        chosen = router.chain_of(prompt)
        best = str(model.choose(prompt, price=3.0))
        assert chosen == best or best not in servers
        assert router.complete(prompt, max_tokens=4) == f"{chosen}: {prompt}"
    assert router.chain_of(PROMPTS[0]) in servers
    assert Router(controller, {"0-29": servers["0-29"]}, price=9.0).chain_of(PROMPTS[0]) == "0-29"
    with pytest.raises(UserError, match="chain 5-29 is not of the controller's menu"):
        Router(controller, {"5-29": ""})
