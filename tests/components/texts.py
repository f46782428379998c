"""Components in the text format, for the tests of this folder."""

from __future__ import annotations

from starlette_wasm.components.flat_plan import FlatPlan, flatten
from starlette_wasm.components.reader import read
from starlette_wasm.engine import capi

ALLOCATOR = """
 (memory (export "mem") 1)
 (global $next (mut i32) (i32.const 1024))
 (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $next) (i32.sub (local.get 2) (i32.const 1)))
                          (i32.sub (i32.const 0) (local.get 2))))
  (global.set $next (i32.add (local.get $at) (local.get 3)))
  (block $enough
   (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
   (drop (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 3) (i32.const 16))))))
  (if (local.get 1) (then (memory.copy (local.get $at) (local.get 0)
   (select (local.get 1) (local.get 3) (i32.lt_u (local.get 1) (local.get 3))))))
  (local.get $at))"""
"""A memory, and a realloc that never frees."""

ECHO = f"""(component
 (core module $m {ALLOCATOR}
  (func (export "handle") (param i32 i32) (result i32)
   (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.const 16)))
 (core instance $i (instantiate $m))
 (func (export "handle") (param "request" string) (result string)
  (canon lift (core func $i "handle") (memory (core memory $i "mem")) (realloc (core func $i "realloc")))))"""
"""The world ``edge``: it answers what it is asked."""

COMPOSED = f"""(component
 (component $A
  (core module $m {ALLOCATOR}
   (global $live (export "live") (mut i32) (i32.const 0))
   (func (export "twice") (param i32 i32) (result i32)
    (memory.copy (i32.const 4096) (local.get 0) (local.get 1))
    (memory.copy (i32.add (i32.const 4096) (local.get 1)) (local.get 0) (local.get 1))
    (i32.store (i32.const 16) (i32.const 4096))
    (i32.store (i32.const 20) (i32.mul (local.get 1) (i32.const 2)))
    (i32.const 16))
   (func (export "post") (param i32) (global.set $next (i32.const 1024)))
   (func (export "dtor") (param i32) (global.set $live (i32.sub (global.get $live) (local.get 0))))
   (func (export "live-of") (result i32) (global.get $live)))
  (core instance $i (instantiate $m))
  (type $r (resource (rep i32) (dtor (core func $i "dtor"))))
  (export $re "thing" (type $r))
  (core func $new (canon resource.new $r))
  (core module $n
   (import "" "new" (func $new (param i32) (result i32)))
   (import "m" "live" (global $live (mut i32)))
   (func (export "make") (param i32) (result i32)
    (global.set $live (i32.add (global.get $live) (local.get 0))) (call $new (local.get 0)))
   (func (export "get") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 10))))
  (core instance $j (instantiate $n (with "" (instance (export "new" (func $new)))) (with "m" (instance $i))))
  (func (export "make") (param "v" u32) (result (own $re)) (canon lift (core func $j "make")))
  (func (export "get") (param "t" (borrow $re)) (result u32) (canon lift (core func $j "get")))
  (func (export "live") (result u32) (canon lift (core func $i "live-of")))
  (func (export "twice") (param "s" string) (result string)
   (canon lift (core func $i "twice") (memory (core memory $i "mem")) (realloc (core func $i "realloc"))
    (post-return (core func $i "post")))))
 (component $B
  (import "thing" (type $t (sub resource)))
  (import "make" (func $make (param "v" u32) (result (own $t))))
  (import "get" (func $get (param "t" (borrow $t)) (result u32)))
  (import "twice" (func $twice (param "s" string) (result string)))
  (core module $mem {ALLOCATOR})
  (core instance $l (instantiate $mem))
  (core func $m (canon lower (func $make)))
  (core func $g (canon lower (func $get)))
  (core func $tw (canon lower (func $twice) (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))
  (core func $d (canon resource.drop $t))
  (core module $b
   (import "l" "mem" (memory 1))
   (import "" "make" (func $make (param i32) (result i32)))
   (import "" "get" (func $get (param i32) (result i32)))
   (import "" "twice" (func $twice (param i32 i32 i32)))
   (import "" "drop" (func $drop (param i32)))
   (func (export "run") (param i32 i32 i32) (result i32) (local i32)
    (local.set 3 (call $make (local.get 2)))
    (i32.store (i32.const 40) (call $get (local.get 3)))
    (drop (call $make (i32.const 7)))
    (call $drop (local.get 3))
    (call $twice (local.get 0) (local.get 1) (i32.const 32))
    (i32.const 32)))
  (core instance $c (instantiate $b (with "l" (instance $l))
   (with "" (instance (export "make" (func $m)) (export "get" (func $g)) (export "twice" (func $tw))
    (export "drop" (func $d))))))
  (func (export "run") (param "s" string) (param "n" u32) (result (tuple string u32))
   (canon lift (core func $c "run") (memory (core memory $l "mem")) (realloc (core func $l "realloc")))))
 (instance $a (instantiate $A))
 (instance $bb (instantiate $B (with "thing" (type $a "thing")) (with "make" (func $a "make"))
  (with "get" (func $a "get")) (with "twice" (func $a "twice"))))
 (export "run" (func $bb "run"))
 (export "live" (func $a "live")))"""
"""Two inner components that pass strings, and a resource with a destructor."""


def plan_of(text: str) -> FlatPlan:
    """The flat plan of a component in the text format."""
    return flatten(read(capi.assemble(text)))
