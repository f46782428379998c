;; Lists a directory again and again, from odd places.
(data (i32.const 0) ".")
(func $main (local $cookie i64)
  (drop (call $open (i32.const 0) (i32.const 1) (i32.const 2) (i64.const 0x4000)))
  (loop $on
    (drop (call $fd_readdir (i32.load (i32.const 60000)) (i32.const 1024) (i32.const 4096) (local.get $cookie) (i32.const 80)))
    (local.set $cookie (i64.add (local.get $cookie) (i64.const 0x123456789abcdef)))
    (br $on)))
