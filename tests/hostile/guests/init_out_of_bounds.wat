(data $passive "passive")
(func $main (memory.init $passive (i32.const 0) (i32.const 4) (i32.const 100)))
