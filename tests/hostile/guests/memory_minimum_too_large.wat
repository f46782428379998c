(memory (export "memory") 1000)
(func $main)
