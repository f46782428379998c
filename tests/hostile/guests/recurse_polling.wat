;; Calls the host from ever deeper in the stack: its callback runs on what is left of the fiber's.
(data (i32.const 16) "\01")
(global $depth (mut i32) (i32.const 0))
(func $main
  (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
  (if (i32.eqz (i32.and (global.get $depth) (i32.const 511)))
    (then (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))
  (call $main))
