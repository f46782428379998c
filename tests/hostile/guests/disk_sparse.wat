;; Terabytes that cost nothing, in each way there is.
(data (i32.const 0) "sparse")
(data (i32.const 64) "\00\00\00\00\01\00\00\00")
(func $main
  (call $say (call $open (i32.const 0) (i32.const 6) (i32.const 1) (i64.const 66)))
  (call $say (call $fd_filestat_set_size (i32.load (i32.const 60000)) (i64.const 0x40000000000)))
  (call $say (i32.ne (i32.const 0) (call $fd_allocate (i32.load (i32.const 60000)) (i64.const 0) (i64.const 0x40000000000))))
  (call $say (call $fd_seek (i32.load (i32.const 60000)) (i64.const 0x40000000000) (i32.const 0) (i32.const 80)))
  (call $say (call $fd_seek (i32.load (i32.const 60000)) (i64.const 0x40000000000) (i32.const 2) (i32.const 80)))
  (call $say (call $fd_pwrite (i32.load (i32.const 60000)) (i32.const 64) (i32.const 1) (i64.const 0x40000000000) (i32.const 80)))
  (call $say (call $fd_pwrite (i32.load (i32.const 60000)) (i32.const 64) (i32.const 1) (i64.const -1) (i32.const 80)))
  (call $say (call $fd_filestat_set_size (i32.load (i32.const 60000)) (i64.const 0))))
