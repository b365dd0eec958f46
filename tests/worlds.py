"""A clock that moves only by sleeping or by hand, and dice with a seed: what `World` is in a test."""

import random

import anyio

from marketagent.world import World

START = 1_795_000_000.0  # 2026-11-18


class Clock:
    """A time that tests set; every sleep is written down and over at once."""

    def __init__(self, now: float = START) -> None:
        self.time = now
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await anyio.lowlevel.checkpoint()

    def world(self, seed: int = 7) -> World:
        return World(now=self.now, sleep=self.sleep, random=random.Random(seed))
