;; Each call holds the GIL for as long as it takes.
(func $main
  (loop $on (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))) (br $on)))
