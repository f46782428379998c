;; 2^64 - 1 ns.
(data (i32.const 24) "\ff\ff\ff\ff\ff\ff\ff\ff")
(func $main (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))
