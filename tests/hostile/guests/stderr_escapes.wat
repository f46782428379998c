;; Forged log lines, terminal escapes, bytes that are no UTF-8.
(data (i32.const 0) "fine\0a\0dERROR forged: all tenants\0a\1b[2J\1b]0;owned\07\00\ff\fe\ed\a0\80\e2\80\a8{\"level\":\"error\"}\0a")
(data (i32.const 128) "\00\00\00\00\53\00\00\00")
(func $main (drop (call $fd_write (i32.const 2) (i32.const 128) (i32.const 1) (i32.const 140))))
