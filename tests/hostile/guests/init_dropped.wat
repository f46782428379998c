(data $passive "passive")
(func $main (data.drop $passive) (memory.init $passive (i32.const 0) (i32.const 0) (i32.const 1)))
