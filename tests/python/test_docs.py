"""The code of docs/python.md, as it stands there."""

import asyncio
import pathlib
import re
import types

import pawl

from conftest import until

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "python.md"


def code(of, **replaced):
    """The one block that contains `of`."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (text,) = [block for block in blocks if of in block]
    for what, by in replaced.values():
        assert what in text
        text = text.replace(what, by)
    return compile(text, str(PAGE), "exec")


def test_every_block_of_the_page_is_run_here():
    assert PAGE.read_text(encoding="utf-8").count("```python") == 3


def test_the_code_for_asyncio():
    processed = []

    async def process(event):
        processed.append(event.data)

    names = {"process": process, "until": until, "processed": processed}
    # pylint: disable-next=exec-used
    exec(code("await process(event)", wait=("    ...\n", "    await until(lambda: processed)\n")), names)
    asyncio.run(names["main"]())
    assert processed == [{"name": "read"}]


def test_the_code_for_a_framework(tmp_path):
    factories = {}
    names = {
        "BackendType": types.SimpleNamespace(RABBITMQ="rabbitmq"),
        "BackendConfig": lambda backend_type: types.SimpleNamespace(
            backend_type=backend_type, delivery_guarantee="at_least_once", max_retries=3, retry_delay_ms=100, extra={}
        ),
        "register_backend_factory": factories.__setitem__,
        "create_event_backend": lambda config: factories[config.backend_type](config),
    }
    # pylint: disable-next=exec-used
    exec(code("register_backend_factory", state=("/var/lib/app/pawl", str(tmp_path / "state"))), names)
    backend = names["backend"]

    async def use():
        async with backend:
            assert await backend.publish(pawl.MessagingEvent("a"))

    asyncio.run(use())
    assert backend.backend_type == "rabbitmq" and backend.state == str(tmp_path / "state")


def test_the_code_of_the_plain_client(server, capsys):
    # pylint: disable-next=exec-used
    exec(code("client.consume", state=("/var/lib/app/pawl", server.state)), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10_001
    assert lines[0] == "job.resize b'data' {'k': 'v'} 1" and lines[-1] == "job.resize b'9999' {} 1"
    with pawl.connect(server.state) as client:
        assert client.queue("work")["depth"] == 0
