;; 2^32 - 1 empty vectors.
(func $main (drop (call $fd_write (i32.const 1) (i32.const 62000) (i32.const -1) (i32.const 80))))
