;; One long instruction, then a call of the host, again and again.
(memory (export "memory") 64)
(data (i32.const 24) "\e8\03")
(func $main
  (loop $on
    (memory.fill (i32.const 65536) (i32.const 7) (i32.const 4128768))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
    (br $on)))
