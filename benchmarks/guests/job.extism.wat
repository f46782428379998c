;; The trivial job for extism: the answer goes into the memory of its kernel, byte by byte as its PDK does by eights.
(module
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store_u64 (param i64 i64)))
  (import "extism:host/env" "store_u8" (func $store_u8 (param i64 i32)))
  (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
  (memory 1)
  (data (i32.const 16) "{\"message\":\"hello\"}")
  (func (export "handle") (result i32)
    (local $to i64) (local $i i32)
    (local.set $to (call $alloc (i64.const 19)))
    (loop $eights
      (call $store_u64 (i64.add (local.get $to) (i64.extend_i32_u (local.get $i))) (i64.load offset=16 (local.get $i)))
      (br_if $eights (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 16))))
    (loop $bytes
      (call $store_u8 (i64.add (local.get $to) (i64.extend_i32_u (local.get $i))) (i32.load8_u offset=16 (local.get $i)))
      (br_if $bytes (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 19))))
    (call $output_set (local.get $to) (i64.const 19))
    i32.const 0))
