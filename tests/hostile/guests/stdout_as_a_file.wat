(func $main
  (call $say (call $fd_seek (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 8)))
  (call $say (call $fd_tell (i32.const 1) (i32.const 8)))
  (call $say (call $fd_pwrite (i32.const 1) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 8)))
  (call $say (call $fd_filestat_set_size (i32.const 1) (i64.const 0)))
  (call $say (call $fd_allocate (i32.const 1) (i64.const 0) (i64.const 1)))
  (call $say (call $fd_readdir (i32.const 1) (i32.const 0) (i32.const 8) (i64.const 0) (i32.const 8)))
  (call $say (call $path_open (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i64.const -1)
    (i64.const -1) (i32.const 0) (i32.const 8))))
