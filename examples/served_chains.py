"""A controller in front of served checkpoints: vLLM and llama.cpp run one chain a server, not one a request, so each
prompt goes to the server whose chain suits it best.

    python -m cola_learn.export --chain "0-16 18-29" --output runs/short
    vllm serve runs/short --port 8001 &
    python -m examples.served_chains "def primes(n):" --servers '{"0-29": "http://localhost:8000/v1", "0-16 18-29": "http://localhost:8001/v1"}'

The controller needs the backbone's first layers, here on the CPU.
"""

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from cola_learn import Controller, load_backbone
from cola_learn.command import Command
from cola_learn.errors import UserError
from cola_learn.train.features import prompt_features


@dataclass(frozen=True)
class RouteOptions:
    """Options of python -m examples.served_chains.

    Attributes:
        prompt: to be completed.
        servers: the address of an OpenAI-compatible server (.../v1) for each chain; of the controller's menu.
        controller: folder or hub id.
        price: of depth, default the controller's own.
        max_tokens: that are written.
    """

    prompt: str
    servers: dict[str, str] = field(default_factory=dict)
    controller: str = "checkpoints/texts"
    price: float | None = None
    max_tokens: int = 64


class Router:
    """Sends each prompt to the server of that chain which its controller likes best.

    Raises:
        UserError: if the controller does not know one of the chains.
    """

    def __init__(self, controller: Controller, servers: Mapping[str, str], price: float | None = None) -> None:
        if unknown := [chain for chain in servers if chain not in map(str, controller.menu)]:
            raise UserError(
                f"chain {unknown[0]} is not of the controller's menu: {', '.join(map(str, controller.menu))}"
            )
        self.controller, self.servers, self.price = controller, servers, price
        self.backbone = load_backbone(controller.config.backbone, "cpu")

    def chain_of(self, prompt: str) -> str:
        [states] = prompt_features(self.backbone, [prompt], self.controller.config.feature_layers)
        ranked = self.controller.write(states, len(self.controller.menu), self.price)
        return next(str(chain) for chain, _ in ranked if str(chain) in self.servers)

    def complete(self, prompt: str, **options: object) -> str:
        return self.ask(self.chain_of(prompt), prompt, **options)

    def ask(self, chain: str, prompt: str, **options: object) -> str:
        """What the server of a chain makes of a prompt."""
        body = json.dumps({"prompt": prompt, **options}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.servers[chain]}/completions", body, headers)
        with urllib.request.urlopen(request) as answer:
            return str(json.load(answer)["choices"][0]["text"])


def run_route(options: RouteOptions) -> None:
    """Print the chain and the completion."""
    router = Router(Controller.from_pretrained(options.controller), options.servers, options.price)
    chain = router.chain_of(options.prompt)
    print(f"{chain}\n{router.ask(chain, options.prompt, max_tokens=options.max_tokens)}")


if __name__ == "__main__":
    Command(RouteOptions, run_route, "One prompt to the served chain that suits it best.", ("prompt",))(
        "examples.served_chains"
    )
