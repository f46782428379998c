;; Traps as it is instantiated.
(data (i32.const 65536) "out")
(func $main)
