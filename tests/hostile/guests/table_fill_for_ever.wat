(table $t 100000 funcref)
(func $main (loop $on (table.fill $t (i32.const 0) (ref.func $main) (i32.const 100000)) (br $on)))
(elem declare func $main)
