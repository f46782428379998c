(table 4 funcref)
(elem $passive func $main)
(func $main (table.init $passive (i32.const 0) (i32.const 0) (i32.const 2)))
