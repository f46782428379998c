;; Plants symlinks that lead out, and follows them.
(data (i32.const 0) "planted")
(data (i32.const 16) "../secret.txt")
(data (i32.const 32) "/etc/passwd")
(data (i32.const 48) "..")
(data (i32.const 64) "planted/secret.txt")
(func $follow (param $to i32) (param $len i32) (param $path_len i32)
  (drop (call $path_unlink_file (i32.const 3) (i32.const 0) (i32.const 7)))
  (drop (call $path_symlink (local.get $to) (local.get $len) (i32.const 3) (i32.const 0) (i32.const 7)))
  (call $say (i32.ne (i32.const 0) (call $open
    (select (i32.const 0) (i32.const 64) (i32.eq (local.get $path_len) (i32.const 7)))
    (local.get $path_len) (i32.const 0) (i64.const 2)))))
(func $main
  (call $follow (i32.const 16) (i32.const 13) (i32.const 7))
  (call $follow (i32.const 32) (i32.const 11) (i32.const 7))
  (call $follow (i32.const 48) (i32.const 2) (i32.const 18))
  (drop (call $path_unlink_file (i32.const 3) (i32.const 0) (i32.const 7))))
