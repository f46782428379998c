"""Two components in the text format: one imports an interface that the other exports."""

from __future__ import annotations

from texts import ALLOCATOR

PRICES = f"""(component
 (core module $m {ALLOCATOR}
  (data (i32.const 64) "{{\\"status_code\\":200,\\"body\\":\\"0\\"}}")
  (global $count (mut i32) (i32.const 48))
  (func (export "quote") (param i32 i32) (result i32)
   (global.set $count (i32.add (global.get $count) (i32.const 1)))
   (i32.store8 (i32.const 91) (global.get $count))
   (i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const 30)) (i32.const 16))
  (func (export "spin") (param i32 i32) (result i32) (loop $l (br $l)) unreachable)
  (func (export "trap") (param i32 i32) (result i32) unreachable))
 (core instance $i (instantiate $m))
 (func $f (param "item" string) (result string)
  (canon lift (core func $i "quote") (memory (core memory $i "mem")) (realloc (core func $i "realloc"))))
 (instance $prices (export "quote" (func $f)))
 (export "docs:shop/prices@1.0.0" (instance $prices)))"""
"""Answers with how often this instance was asked."""

ORDER = f"""(component
 (import "docs:shop/prices@1.0.0" (instance $p (export "quote" (func (param "item" string) (result string)))))
 (core module $mem {ALLOCATOR})
 (core instance $l (instantiate $mem))
 (core func $quote (canon lower (func $p "quote") (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))
 (core module $m (import "" "quote" (func $quote (param i32 i32 i32))) (import "l" "mem" (memory 1))
  (func (export "handle") (param i32 i32) (result i32)
   (call $quote (local.get 0) (local.get 1) (i32.const 48))
   (call $quote (local.get 0) (local.get 1) (i32.const 32)) (i32.const 32)))
 (core instance $i (instantiate $m (with "l" (instance $l)) (with "" (instance (export "quote" (func $quote))))))
 (func $handle (param "request" string) (result string)
  (canon lift (core func $i "handle") (memory (core memory $l "mem")) (realloc (core func $l "realloc"))))
 (instance $prices (export "quote" (func $handle)))
 (export "handle" (func $handle))
 (export "docs:shop/orders@1.0.0" (instance $prices)))"""
"""Of the world edge: asks twice, and gives the second answer. Also exports an interface of the same shape."""


def with_body(text: str, name: str) -> str:
    """PRICES with another function of its core module in the place of quote."""
    return text.replace('(core func $i "quote")', f'(core func $i "{name}")')
