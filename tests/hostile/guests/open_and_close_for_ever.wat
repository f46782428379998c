(data (i32.const 0) "a.txt")
(func $main
  (loop $on
    (drop (call $open (i32.const 0) (i32.const 5) (i32.const 0) (i64.const 2)))
    (drop (call $fd_close (i32.load (i32.const 60000))))
    (br $on)))
