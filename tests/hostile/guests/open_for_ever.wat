(data (i32.const 0) "a.txt")
(func $main (loop $on (drop (call $open (i32.const 0) (i32.const 5) (i32.const 0) (i64.const 2))) (br $on)))
