"""One fresh instance: bytes in, bytes out. Whoever polls it owns it; it is closed once."""

from __future__ import annotations

import ctypes
import itertools
import os
import time
from functools import partial
from typing import NoReturn, Self

from . import capi, layout
from .bounds import TABLE_ELEMENTS, TABLES
from .engine import OutOfInstances
from .native.library import COMPLETED, EXITED, INSTANTIATE_FAILED, NOT_GRANTED, NativeLibrary, native
from .outcome import Denial, End, Outcome
from .plan import NO_KEY, NO_STRINGS, Plan, Preopen
from .scratch import SPARE, Scratch, drop_failure

_REALTIME = layout.FIELDS["realtime"]
_NO_DEADLINE = 1 << 40
_FIRST_POLL = 2  # ticks: one to two milliseconds, so that a quick guest never meets one by chance
_numbers = itertools.count(1)


class Instance:
    """A store with one instance of the plan's module. Closed by whatever ends it: finish(), stop(), close()."""

    __slots__ = (
        "_args_at",
        "_base",
        "_begun",
        "_completed",
        "_context",
        "_environ",
        "_future",
        "_instantiated",
        "_scratch",
        "_settled",
        "_stdin",
        "_store",
        "cpu",
        "engine",
        "number",
        "plan",
    )  # fmt: skip

    def __init__(self, plan: Plan, stdin: bytes, environ: bytes = NO_STRINGS, args: bytes = b"") -> None:
        """Take ``environ`` and ``args``, blocks of layout.strings(), if they are not those of the plan."""
        self.plan = plan
        self.engine = plan.module.engine
        self.cpu = 0.0
        self._stdin = stdin
        self._environ = environ + args
        self._args_at = plan.environ_at + len(environ) if args else 0
        self._scratch: Scratch | None = None
        self._store: int | None = None
        self._future: int | None = None
        self._instantiated = False
        """Whether wasmtime has made the instance."""
        self._completed = False
        self._begun: int | None = None
        self._settled: Outcome | None = None
        self.number = 0

    @classmethod
    def started(cls, plan: Plan, scratch: Scratch, how: int) -> Self:
        """Make one that fast_path.c made and polled; start() returns what came of it. It counts as live already."""
        instance = cls(plan, b"")
        instance._scratch = scratch
        instance._begun = how
        instance._own(scratch, how)  # or close() would leave it there
        plan.module.live.add(id(instance))
        return instance

    def drop(self) -> None:
        """Close what has begun, if nobody has started it."""
        if self._begun is not None:
            self._begun = None
            self.close()

    @property
    def ran(self) -> float:
        """Seconds that the first poll of invoke.c took: see poll_timed() there."""
        return self._made.result()[0] / 1e9

    def start(self) -> bool:
        """Make the guest, and run it until it ends, waits for the host, or the epoch ticks. True when it has ended.

        Raises OutOfInstances if the engine has no room, EngineError if the module is closed or cannot be made.
        """
        started, self._begun = self._begun, None
        scratch = self.reserve() if started is None else self._made
        try:
            if started is not None:
                return self._take_result(scratch, started)
            if native is not None:
                return self._run_native(native, scratch)
            self._make(scratch)
            self._enter(scratch)
            begin = time.thread_time()  # a process that waits for a CPU does no work
            ended = self.poll()
            self.cpu = time.thread_time() - begin
            return ended
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Make the guest in a place that reserve() has taken, in any thread, and leave it to whoever polls it."""
        scratch = self._made
        try:
            self._make(scratch)
            self._enter(scratch)
        except BaseException:
            self.close()
            raise

    def make(self) -> None:
        """Make the guest and run nothing of it: close() is what is left. Raises as start() does."""
        scratch = self.reserve()
        try:
            self._make(scratch)
        except BaseException:
            self.close()
            raise

    def _make(self, scratch: Scratch) -> None:
        if native is not None:
            self._begin_native(native, scratch)
        else:
            self._begin(scratch)

    def reserve(self) -> Scratch:
        """Take a place among the guests of the engine. Raises OutOfInstances, and EngineError for a closed module."""
        module, engine = self.plan.module, self.engine
        state = engine.state
        if state.live >= state.most:
            raise OutOfInstances(f"{state.most} guests are alive (max_instances)")
        module.live.add(id(self))
        if module.pre is None:  # looked at after that, as Module.close() does it the other way round
            module.live.discard(id(self))
            raise capi.EngineError("the module is closed")
        state.live += 1
        self._scratch = scratch = engine.scratch()
        if module.calls_host and not module.calls_are_noted:
            self.number = next(_numbers)
            engine.live[self.number] = self  # type: ignore[assignment]
        return scratch

    def _run_native(self, native: NativeLibrary, scratch: Scratch) -> bool:
        stdin, environ = self._stdin, self._environ
        template = self._template()
        how = native.run(scratch.at, self.plan.at, template, len(template), environ, len(environ), stdin, len(stdin))
        return self._take_result(scratch, how)

    def _take_result(self, scratch: Scratch, how: int) -> bool:
        """Take over from invoke.c. True when the guest has ended. Raises as start()."""
        self._own(scratch, how)
        if how < 0:
            self._raise_failure(scratch, how)
        self.cpu = scratch.result()[0] / 1e9
        self._completed = how == COMPLETED
        return self._completed or how == EXITED

    def _begin_native(self, native: NativeLibrary, scratch: Scratch) -> None:
        stdin, environ = self._stdin, self._environ
        template = self._template()
        how = native.begin(scratch.at, self.plan.at, template, len(template), environ, len(environ), stdin, len(stdin))
        self._own(scratch, how)
        if how < 0:
            self._raise_failure(scratch, how)

    def _own(self, scratch: Scratch, how: int) -> None:
        """Take over what invoke.c has left: no store, if that was small and its guest has completed."""
        self._store, self._context, self._future, self._base = scratch.owned()
        self._instantiated = how != INSTANTIATE_FAILED

    def _raise_failure(self, scratch: Scratch, how: int) -> NoReturn:
        """Raise the error that ``how``, a result of invoke.c, stands for."""
        if how == NOT_GRANTED:
            raise _not_granted(self.plan.preopens[scratch.not_granted()])
        trap, error = scratch.take_failure()
        if error:
            raise (OutOfInstances if how == INSTANTIATE_FAILED else capi.EngineError)(capi.take_error(error))
        raise capi.EngineError(capi.take_trap(trap or 0)[0])

    def _begin(self, scratch: Scratch) -> None:
        """Do what ``begin`` of invoke.c does, with what the host adds."""
        plan, stdin, environ = self.plan, self._stdin, self._environ
        scratch.forget_calls()
        data = scratch.at if plan.module.calls_are_noted else self.number
        self._store = capi.store_new(self.engine.ptr, data, None)
        self._context = context = capi.store_context(self._store)
        capi.store_limiter(self._store, plan.bound + len(stdin) + len(environ), TABLE_ELEMENTS, 1, TABLES, 2)
        capi.set_epoch_deadline(context, _NO_DEADLINE)  # instantiation runs none of the guest's code
        instance_at, io_at, main_at = scratch.instance_at, scratch.io_at, scratch.main_at
        scratch.trap.value = None
        scratch.error.value = capi.pre_instantiate(plan.pre, context, instance_at, scratch.trap_at)
        if scratch.error.value or scratch.trap.value:
            self._raise_failure(scratch, INSTANTIATE_FAILED)
        self._instantiated = True
        name_at, length_at = scratch.name_at, scratch.length_at
        capi.export_nth(context, instance_at, 0, name_at, length_at, io_at)
        capi.export_nth(context, instance_at, 1, name_at, length_at, main_at)
        io_at += capi.EXTERN_OF

        in_at = plan.environ_at + len(environ)
        out_at = in_at + len(stdin)
        if out_at > layout.IO - SPARE // 2:
            size = (out_at + SPARE + layout.PAGE - 1) // layout.PAGE * layout.PAGE
            capi.check(capi.memory_grow(context, io_at, size - layout.IO, length_at))
        self._base = capi.memory_data(context, io_at)
        limits = plan.limits
        head = layout.HEADER_HEAD.pack(
            in_at, len(stdin), 0, out_at, 0, limits.stdout, out_at + limits.stdout, 0, limits.stderr
        )
        blob = b"".join((head, self._template(), environ, stdin))
        capi.memmove(self._base, blob, len(blob))
        self._add_host()

    def _enter(self, scratch: Scratch) -> None:
        context = self._context
        capi.yield_on_epoch(context, 1)
        capi.set_epoch_deadline(context, _FIRST_POLL)
        self._future = capi.func_call_async(
            context, scratch.main_at + capi.EXTERN_OF, None, 0, None, 0, scratch.trap_at, scratch.error_at
        )

    def _add_host(self) -> None:
        """Add the granted directories, and the host's functions."""
        plan = self.plan
        if plan.preopens:
            self._grant(plan.preopens)
            self._fill_table(plan.module.host_names)
        elif plan.module.calls_host:
            self._fill_table(plan.module.host_call_names)

    def _template(self) -> bytes:
        """Return the plan's template, with the clocks, a key for random_get and the arguments of this one."""
        template = self.plan.template
        if self.plan.dynamic:
            key = os.urandom(32) if self.plan.module.reads_random else NO_KEY
            template = self.plan.make_template(*self._clocks(), key)
        if self._args_at:
            at = layout.FIELDS["args"] - layout.HEADER_HEAD.size
            template = b"".join((template[:at], self._args_at.to_bytes(4, "little"), template[at + 4 :]))
        return template

    def _export(self, number: int, into: int) -> None:
        scratch = self._made
        capi.export_nth(self._context, scratch.instance_at, number, scratch.name_at, scratch.length_at, into)

    def _grant(self, preopens: tuple[Preopen, ...]) -> None:
        config = capi.wasi_config_new()
        for preopen in preopens:
            if not capi.wasi_preopen(config, os.fsencode(preopen.host), preopen.guest.encode(), preopen.writable):
                capi.wasi_config_delete(config)
                raise _not_granted(preopen)
        capi.check(capi.context_set_wasi(self._context, config))

    def _fill_table(self, names: tuple[tuple[int, bytes], ...]) -> None:
        scratch = self._made
        self._export(3, scratch.table_at)
        for slot, name in names:
            self.engine.host_function(self._context, name, scratch.extern_at)
            scratch.set_funcref()
            capi.check(capi.table_set(self._context, scratch.table_at + capi.EXTERN_OF, slot, scratch.value_at))

    def _clocks(self) -> tuple[int, int]:
        """Return real and monotonic time in nanoseconds, as coarse as the guest may see it."""
        resolution = self.engine.config.clock_resolution_ns
        realtime, monotonic = time.time_ns(), time.monotonic_ns()
        return realtime - realtime % resolution, monotonic - monotonic % resolution

    def _io(self) -> int:
        """Address of the io memory now: only the pooled one never moves."""
        base: int = self._base
        if not self.engine.pooled:
            base = capi.memory_data(self._context, self._made.io_at + capi.EXTERN_OF)
        return base

    def _io_size(self) -> int:
        size: int = capi.memory_size(self._context, self._made.io_at + capi.EXTERN_OF)
        return size

    def poll(self) -> bool:
        """Run until the guest ends, waits for the host, or the epoch ticks. True when it has ended."""
        ended: bool = capi.future_poll(self._future)
        return ended

    def set_clocks(self) -> None:
        """Let the guest see the time of the next poll."""
        if self.plan.module.reads_clock:
            capi.memmove(self._io() + _REALTIME, layout.CLOCKS.pack(*self._clocks()), layout.CLOCKS.size)

    def guest_memory(self) -> memoryview:
        """Return the guest's own memory; valid until it runs on."""
        scratch = self._made
        self._export(2, scratch.extern_at)
        at = scratch.extern_at + capi.EXTERN_OF
        size = capi.memory_size(self._context, at)
        data = (ctypes.c_char * size).from_address(capi.memory_data(self._context, at))
        return memoryview(data).cast("B")

    def write(self, at: int, data: bytes) -> None:
        """Copy into the guest's own memory, which is large enough."""
        scratch = self._made
        self._export(2, scratch.extern_at)
        base: int = capi.memory_data(self._context, scratch.extern_at + capi.EXTERN_OF)
        capi.memmove(base + at, data, len(data))

    def guest_size(self) -> int:
        """Return how many bytes the guest's own memory has."""
        scratch = self._made
        self._export(2, scratch.extern_at)
        size: int = capi.memory_size(self._context, scratch.extern_at + capi.EXTERN_OF)
        return size

    def stdin_left(self) -> int:
        fields: tuple[int, ...] = layout.RESULTS.unpack(capi.string_at(self._io(), layout.RESULTS.size))
        return max(fields[1] - fields[2], 0)

    def descriptors(self) -> tuple[tuple[int, ...], int]:
        """Return the descriptors of stdin, stdout and stderr, -1 and below if they are closed; and a bit for each
        subscription of poll_oneoff whose descriptor is not open.
        """
        base = self._io()
        streams = layout.STREAMS.unpack(capi.string_at(base + layout.FIELDS["streams"], layout.STREAMS.size))
        missing = capi.string_at(base + layout.FIELDS["missing"], 8)
        return tuple(fd ^ number for number, fd in enumerate(streams)), int.from_bytes(missing, "little")

    def stop(self) -> Outcome:
        """End a guest where it is, for want of time, and return its outcome; closes the instance."""
        try:
            if self._settled is not None:  # it has ended in its thread meanwhile
                return self._settled
            if not self._instantiated:
                return Outcome(End.TIMEOUT)
            outcome = self._outcome(stopped=True)
            outcome.end = End.TIMEOUT
            return outcome
        finally:
            self.close()

    def finish(self) -> Outcome:
        """Return the outcome of a guest that has ended; closes the instance."""
        try:
            self.settle()
            assert self._settled is not None
            return self._settled
        finally:
            self.close()

    def settle(self) -> None:
        """Work out the outcome and free the store, in any thread: both take long if memory is large."""
        if self._settled is None:
            self._settled = self._completed_outcome() if self._completed else self._outcome()
            self._release()

    def _completed_outcome(self) -> Outcome:
        _, pages, stdout = self._made.result()
        outcome = Outcome(End.OK, stdout)
        outcome.memory_bytes = layout.PAGE * max(pages, self.plan.module.min_pages)
        return outcome

    @property
    def _made(self) -> Scratch:
        assert self._scratch is not None, "it is closed, or was not started"
        return self._scratch

    def _outcome(self, *, stopped: bool = False) -> Outcome:
        scratch = self._made
        future, self._future = self._future, None  # first: a signal handler may raise between any two lines
        capi.future_delete(future)
        base = self._io()
        (
            _, _, _, out_at, out_len, out_cap, err_at, err_len, err_cap,
            overflow, exited, exit_code, refused, refused_pages, denials, _, dropped, pages,
        ) = layout.RESULTS.unpack(capi.string_at(base, layout.RESULTS.size))  # fmt: skip
        end = max(err_at + err_len if err_len else 0, out_at + out_len)
        if out_len > out_cap or err_len > err_cap or (end > layout.IO and end > self._io_size()):
            raise capi.EngineError("the io memory is inconsistent")
        outcome = Outcome(End.OK, b"" if stopped else capi.string_at(base + out_at, out_len))
        outcome.memory_bytes = layout.PAGE * max(pages, self.plan.module.min_pages)
        if err_len or dropped:
            outcome.stderr = capi.string_at(base + err_at, err_len)
            outcome.stderr_dropped = dropped
        if refused:
            outcome.refused_pages = refused_pages
        if denials:
            outcome.denials = self._denials(base, min(denials, layout.DENIALS))
        trap, error = scratch.take_failure()
        if error:
            outcome.end, outcome.reason = End.TRAP, capi.take_failure(error)
        if trap:
            reason, frames, places = capi.take_trap(trap)
            if overflow:
                outcome.end = End.OUTPUT
            elif exited:
                outcome.exit_code = exit_code
                outcome.end = End.EXIT if exit_code else End.OK
            else:
                outcome.end, outcome.reason = End.TRAP, reason
                outcome.frames, outcome.places = frames, places
        if refused and outcome.end in (End.TRAP, End.EXIT):
            outcome.end = End.MEMORY
        return outcome

    def _denials(self, base: int, count: int) -> tuple[Denial, ...]:
        found = []
        for i in range(count):
            at = base + layout.FIELDS["denial_list"] + i * layout.DENIAL_SIZE
            _, write, length, _ = layout.DENIAL.unpack(capi.string_at(at, layout.DENIAL.size))
            path = capi.string_at(at + layout.DENIAL.size, min(length, 128)).decode("utf-8", "replace")
            found.append(Denial(path, bool(write)))
        return tuple(found)

    def close(self) -> None:
        """Drop the guest wherever it is. Never while another thread polls it."""
        scratch = self._scratch
        if scratch is None:
            return
        try:
            if (scratch.trap.value or scratch.error.value) and not self.engine.dead:  # nobody asked how it ended
                drop_failure(scratch)
        finally:
            self._release()

    def _release(self) -> None:
        """Have the store freed, if there is one, and then give back the place. Does nothing the second time."""
        scratch = self._scratch
        if scratch is None:
            return
        size = self._size() if self._store else 0
        store, self._store = self._store, None
        future, self._future = self._future, None
        self._scratch = None
        if store:
            self.engine.reclaimer.free(store, future, size, self.plan.tenant, partial(self._leave, scratch))
        else:
            self._leave(scratch)

    def _size(self) -> int:
        """Return how many bytes of memory are in the store."""
        if self.engine.dead:
            return 0
        if not self._instantiated:
            return min(self.plan.module.min_pages, self.plan.limits.memory_pages) * layout.PAGE
        return self.guest_size() + self._io_size()

    def _leave(self, scratch: Scratch) -> None:
        """Give back the place among the guests of the engine."""
        if self.plan.module.calls_are_noted:
            scratch.give(None)
        self.plan.module.live.discard(id(self))
        if self.number:
            self.engine.live.pop(self.number, None)
        self.engine.scratches.append(scratch)
        self.engine.state.live -= 1


def _not_granted(preopen: Preopen) -> OSError:
    return OSError(f"cannot open the granted directory {preopen.host}")
