"""The core module that stands between a component's core instances and the host.

For each function that the host makes it has one of the right type. That puts its arguments into a frame, and calls
``step`` of the host with the number of the function, again and again, until that says 0: each other answer is a call
of the guest's that the host needs made (a realloc, the function behind an adapter, a destructor). So the host never
calls into a guest from within a call, and Python runs while the guest waits, not on its stack. While the host has set
HOLD, a guest that wants to call it goes round in a loop instead, until the epoch ticks and it is taken from the event
loop to a thread: no callback of Python is entered before. The functions to call
are in a table that the host fills as their instances are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .flat_plan import AsyncFunction, CoreExport, CoreItem, ExportTree, FlatPlan, HostFunction, LiftedFunction
from .types import MAX_FLAT_PARAMS, Resource, Signature, async_signature, signature

FRAMES, TABLE = "frames", "functions"
"""Exports: the memory with the frames, and the table."""
SLOT = 8
ARGUMENTS, RESULT, CALLEE = 18, 36, 37
"""Slots of a frame, of 8 bytes each: from 0 what the function was given, then what it calls with, then a result, and
the place in the table of what ANY_REALLOC calls.
"""
FRAME = 38 * SLOT
_PAGES = 1
HOLD = 65528
"""The address of the flag that ``step`` is not to be called yet."""
_LAST_FRAME = HOLD - FRAME
"""Calls nested more deeply would have frames beyond the memory, where the host would write."""
DONE, REALLOC, CALLEE_REALLOC, CALL, POST_RETURN, DESTROY, ANY_REALLOC, FIRST_FORM = range(8)
"""The result of ``step``: what to call next. From FIRST_FORM on, a function of a task, by its core type."""
ANY, ANY_POST_RETURN = -2, -3
"""Kinds of calls that are made as a number from FIRST_FORM on: a task may go on wherever another one waits."""
EVENT_GIVERS = ("subtask.cancel", "waitable-set.poll", "waitable-set.wait", "cancel-read")
"""Built-ins that may give an event of what another function began: room for that comes from its realloc."""
TRAP = -1
_REALLOC = Signature(("i32",) * 4, ("i32",), False, False)
_NOTHING = Signature(("i32",), (), False, False)


@dataclass(frozen=True, slots=True, eq=False)
class GuestCall:
    """A function of the guest that the host wants called. ``arguments`` are flat values."""

    kind: int
    item: CoreItem
    arguments: list[int]
    form: Signature


def realloc_call(kind: int, item: CoreItem, alignment: int, size: int) -> GuestCall:
    return GuestCall(kind, item, [0, 0, alignment, size], _REALLOC)


def destroy_call(item: CoreItem, rep: int) -> GuestCall:
    return GuestCall(DESTROY, item, [rep], _NOTHING)


CALLBACK_FORM = Signature(("i32",) * 3, ("i32",), False, False)
"""The core type of a callback: event, index, and what came of it, to what the task wants next."""
_BUILTINS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "new": ((), ("i64",)), "read": (("i32", "i32"), ("i32",)), "write": (("i32", "i32"), ("i32",)),
    "cancel-read": (("i32",), ("i32",)), "cancel-write": (("i32",), ("i32",)), "drop-readable": (("i32",), ()),
    "drop-writable": (("i32",), ()), "task.cancel": ((), ()), "context.get": ((), ("i32",)),
    "context.set": (("i32",), ()), "waitable-set.new": ((), ("i32",)), "waitable-set.poll": (("i32", "i32"), ("i32",)),
    "waitable-set.drop": (("i32",), ()), "waitable.join": (("i32", "i32"), ()), "subtask.cancel": (("i32",), ("i32",)),
    "subtask.drop": (("i32",), ()), "waitable-set.wait": (("i32", "i32"), ("i32",)), "thread.yield": ((), ("i32",)),
    "backpressure.inc": ((), ()), "backpressure.dec": ((), ()),
}  # fmt: skip


def _builtin_form(function: AsyncFunction) -> Signature:
    family, _, action = function.name.partition(".")
    if function.name == "task.return":
        flat = () if function.type is None else function.type.flat
        spilled = len(flat) > MAX_FLAT_PARAMS
        return Signature(("i32",) if spilled else flat, (), spilled, False)
    streams = family in ("stream", "future")
    params, results = _BUILTINS[action if streams else function.name]
    if family == "stream" and action in ("read", "write"):
        params = (*params, "i32")
    return Signature(params, results, False, False)


def form_of_lifted(function: LiftedFunction) -> Signature:
    """Return the core type of what a function was lifted from."""
    options = function.options
    if not options.is_async:
        return signature(function.type, lowered=False)
    form = async_signature(function.type, lowered=False)
    return form if options.callback is not None else Signature(form.params, (), form.params_spilled, False)


def post_return_form(form: Signature) -> Signature:
    return Signature(form.results, (), False, False)


@dataclass(frozen=True, slots=True)
class Glue:
    """The text of the module, and what belongs into each slot of its table."""

    text: str
    slots: dict[CoreItem, int]
    forms: dict[Signature, int]
    """For each core type of what tasks call, the result of ``step`` that has it called."""

    def number(self, call: GuestCall) -> int:
        """Return the result of ``step`` that has a call made."""
        return call.kind if call.kind >= 0 else self.forms[_bare(call.form)]


def form_of(host: HostFunction) -> Signature:
    """Return the core type of a function that the host makes."""
    if isinstance(host.of, Resource):
        return Signature(("i32",), () if host.kind == "drop" else ("i32",), False, False)
    if isinstance(host.of, AsyncFunction):
        return _builtin_form(host.of)
    return (async_signature if host.options.is_async else signature)(host.of.type, lowered=True)


def callees(host: HostFunction) -> list[tuple[int, CoreItem | None, Signature]]:
    """Return what a function of the host may call of the guest; None for one that is chosen at the call."""
    found: list[tuple[int, CoreItem | None, Signature]] = []
    if host.options.realloc is not None:
        found.append((REALLOC, host.options.realloc, _REALLOC))
    match host.of:
        case LiftedFunction(type=kind) if _is_task(host):
            pass
        case LiftedFunction(core=core, options=options, type=kind):
            form = signature(kind, lowered=False)
            found.append((CALL, core, form))
            if options.realloc is not None:
                found.append((CALLEE_REALLOC, options.realloc, _REALLOC))
            if options.post_return is not None:
                found.append((POST_RETURN, options.post_return, post_return_form(form)))
        case AsyncFunction(name=name) if name.endswith(EVENT_GIVERS):
            found.append((ANY_REALLOC, None, _REALLOC))
        case Resource(destructor=CoreExport() | HostFunction() as destructor) if host.kind == "drop":
            found.append((DESTROY, destructor, _NOTHING))
    return found


def _is_task(host: HostFunction) -> bool:
    """Return whether it calls a function of another component that may wait."""
    return isinstance(host.of, LiftedFunction) and (host.of.type.is_async or host.options.is_async)


def _tasks_of(plan: FlatPlan) -> list[LiftedFunction]:
    """Return the functions of which calls wait beside each other; none if no component calls another so."""
    called = [host.of for host in plan.hosts if isinstance(host.of, LiftedFunction) and _is_task(host)]
    return [*called, *_exported(plan.exports)] if called else []


def _exported(exports: ExportTree) -> Iterator[LiftedFunction]:
    for _, item in exports.values():
        if isinstance(item, LiftedFunction) and item.type.is_async:
            yield item
        elif isinstance(item, dict):
            yield from _exported(item)


def _bare(form: Signature) -> Signature:
    """Return a core type without what it stands for."""
    return Signature(form.params, form.results, False, False)


def _note_task(function: LiftedFunction, slots: dict[CoreItem, int], forms: dict[Signature, int]) -> None:
    """Give all that is called of a task its places."""
    options, form = function.options, form_of_lifted(function)
    called = [(function.core, form), (options.callback, CALLBACK_FORM), (options.realloc, None)]
    called.append((options.post_return, post_return_form(form)))
    for item, each in called:
        if item is not None:
            slots.setdefault(item, len(slots))
        if item is not None and each is not None:
            forms.setdefault(_bare(each), FIRST_FORM + len(forms))


def _may_wait(host: HostFunction) -> bool:
    """Return whether a guest may wait in it on its stack, so that tasks are called there."""
    if isinstance(host.of, AsyncFunction):
        return host.of.name.endswith((*EVENT_GIVERS, ".read", ".write", "cancel-write", "thread.yield"))
    return (not isinstance(host.of, Resource) and host.of.type.is_async) or _is_task(host)


def make(plan: FlatPlan) -> Glue:
    slots: dict[CoreItem, int] = {}
    forms: dict[Signature, int] = {}
    for each in _tasks_of(plan):
        _note_task(each, slots, forms)
    functions = [_function(host, slots, runs_tasks=bool(forms) and _may_wait(host)) for host in plan.hosts]
    size = max(len(slots), 1)
    text = "\n".join(
        [
            "(module",
            '(import "host" "step" (func $step (param i32 i32) (result i32)))',
            f'(memory (export "{FRAMES}") {_PAGES} {_PAGES})',
            f'(table (export "{TABLE}") {size} {size} funcref)',
            "(global $sp (mut i32) (i32.const 0))",
            "(func $too_deep (call $too_deep))",  # traps as a stack that is exhausted, which it is
            _any(forms),
            *functions,
            ")",
        ]
    )
    return Glue(text, slots, forms)


def _any(forms: dict[Signature, int]) -> str:
    """Return a function that makes a call of a task, by its core type."""
    slot = _slot(None, {})
    calls = "\n".join(_if(number, _indirect(form, slot), "(return)") for form, number in forms.items())
    return f"(func $any (param $f i32) (param $a i32) {calls} (unreachable))"


def _function(host: HostFunction, slots: dict[CoreItem, int], *, runs_tasks: bool) -> str:
    form = form_of(host)
    store = "\n".join(
        f"(i64.store offset={index * SLOT} (local.get $f) {_to_bits(kind, f'(local.get {index})')})"
        for index, kind in enumerate(form.params)
    )
    called = callees(host)
    if runs_tasks and (ANY_REALLOC, None, _REALLOC) not in called:
        called.append((ANY_REALLOC, None, _REALLOC))
    calls = "\n".join(_if(kind, _indirect(to, _slot(item, slots)), "(br $again)") for kind, item, to in called)
    if runs_tasks:
        calls += f"""(if (i32.ge_s (local.get $a) (i32.const {FIRST_FORM}))
       (then (call $any (local.get $f) (local.get $a)) (br $again)))"""
    load = "".join(_from_bits(kind, RESULT) for kind in form.results)
    return f"""(func (export "h{host.number}") {_type(form)} (local $f i32) (local $a i32)
     (local.set $f (global.get $sp))
     (if (i32.gt_u (local.get $f) (i32.const {_LAST_FRAME})) (then (call $too_deep)))
     (global.set $sp (i32.add (local.get $f) (i32.const {FRAME})))
     {store}
     (block $done (loop $again
      (loop $held (br_if $held (i32.load (i32.const {HOLD}))))
      (local.set $a (call $step (i32.const {host.number}) (local.get $f)))
      (br_if $done (i32.eqz (local.get $a)))
      {calls}
      (unreachable)))
     (global.set $sp (local.get $f))
     {load})"""


def _slot(item: CoreItem | None, slots: dict[CoreItem, int]) -> str:
    """Return the place of a function in the table."""
    if item is None:
        return f"(i32.load offset={CALLEE * SLOT} (local.get $f))"
    return f"(i32.const {slots.setdefault(item, len(slots))})"


def _if(kind: int, call: str, then: str) -> str:
    return f"(if (i32.eq (local.get $a) (i32.const {kind})) (then {call} {then}))"


def _indirect(to: Signature, slot: str) -> str:
    """Return a call with what is in the frame, and its result put there."""
    arguments = " ".join(_from_bits(each, ARGUMENTS + index) for index, each in enumerate(to.params))
    call = f"(call_indirect {_type(to)} {arguments} {slot})"
    if to.results:
        call = f"(i64.store offset={RESULT * SLOT} (local.get $f) {_to_bits(to.results[0], call)})"
    return call


def _type(form: Signature) -> str:
    return "".join(f" (param {kind})" for kind in form.params) + "".join(f" (result {kind})" for kind in form.results)


def _to_bits(kind: str, value: str) -> str:
    return {
        "i32": f"(i64.extend_i32_u {value})",
        "i64": value,
        "f32": f"(i64.extend_i32_u (i32.reinterpret_f32 {value}))",
        "f64": f"(i64.reinterpret_f64 {value})",
    }[kind]


def _from_bits(kind: str, slot: int) -> str:
    load = f"(i64.load offset={slot * SLOT} (local.get $f))"
    return {
        "i32": f"(i32.wrap_i64 {load})",
        "i64": load,
        "f32": f"(f32.reinterpret_i32 (i32.wrap_i64 {load}))",
        "f64": f"(f64.reinterpret_i64 {load})",
    }[kind]
