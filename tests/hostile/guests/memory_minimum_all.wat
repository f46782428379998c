(memory (export "memory") 65536)
(func $main)
