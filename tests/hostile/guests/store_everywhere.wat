;; All of the address space, at every power of two: one of them traps.
(func $main (local $at i32)
  (local.set $at (i32.const 1))
  (loop $on
    (i32.store8 (local.get $at) (i32.const 0xff))
    (local.set $at (i32.shl (local.get $at) (i32.const 1)))
    (br $on)))
