;; wasmtime's own file functions from ever deeper in the stack.
(data (i32.const 0) "a.txt")
(global $depth (mut i32) (i32.const 0))
(func $main
  (global.set $depth (i32.add (global.get $depth) (i32.const 1)))
  (if (i32.eqz (i32.and (global.get $depth) (i32.const 255)))
    (then (drop (call $path_filestat_get (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 5) (i32.const 64)))))
  (call $main))
