;; A declared maximum grants nothing.
(memory (export "memory") 1 65536)
(func $main (call $say (memory.grow (i32.const 64))) (call $say (memory.grow (i32.const 63))))
