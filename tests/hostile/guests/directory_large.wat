;; A directory of thousands of entries, listed without end: one call takes long.
(data (i32.const 0) "many")
(func $main
  (drop (call $open (i32.const 0) (i32.const 4) (i32.const 2) (i64.const 0x4000)))
  (loop $on
    (drop (call $fd_readdir (i32.load (i32.const 60000)) (i32.const 1024) (i32.const 50000) (i64.const 0) (i32.const 80)))
    (br $on)))
