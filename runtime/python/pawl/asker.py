"""A thread that asks what may take its time. Nobody waits for it when the program ends."""

import asyncio
import concurrent.futures
import queue
import threading


class Asker:
    """Unlike an executor of concurrent.futures, whose threads the interpreter joins: a scheduler that does not
    answer must not keep the program from its end."""

    def __init__(self):
        self._questions = queue.SimpleQueue()
        threading.Thread(target=_answer, args=(self._questions,), name="pawl", daemon=True).start()

    def ask(self, question):
        """In the thread, after what was asked before. Return: a future of this loop."""
        future = concurrent.futures.Future()
        self._questions.put((future, question))
        return asyncio.wrap_future(future)

    def close(self, last=None):
        """When all is answered. `last` is called then; nobody hears of its result."""
        if last is not None:
            self._questions.put((concurrent.futures.Future(), last))
        self._questions.put(None)


def _answer(questions):
    while True:
        asked = questions.get()
        if asked is None:
            return
        future, question = asked
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(question())
        except BaseException as error:  # pylint: disable=broad-except
            future.set_exception(error)
        del asked, future, question  # what they hold is not kept until the next one


async def ask_once(question):
    """In a thread of its own."""
    asker = Asker()
    answer = asker.ask(question)
    asker.close()
    return await answer
