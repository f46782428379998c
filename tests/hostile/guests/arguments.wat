;; One argument: the function's name.
(func $main
  (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
  (drop (call $args_get (i32.const 64) (i32.const 128)))
  (call $say (i32.load (i32.const 0)))
  (call $say (i32.load (i32.const 4))))
