;; 64 MiB of log, and a right answer.
(memory (export "memory") 2)
(data (i32.const 64) "\00\00\01\00\00\00\01\00")
(func $main (local $i i32)
  (loop $on
    (drop (call $fd_write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 80)))
    (br_if $on (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1024)))))
