;; A call from deep in the stack.
(global $depth (mut i32) (i32.const 0))
(func $main
  (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
  (if (i32.eqz (i32.and (global.get $depth) (i32.const 511)))
    (then (drop (call $edge_call (i32.const 99) (i32.const 0) (i32.const 0)))))
  (call $main))
