(global $g (mut i64) (i64.const 0))
(func $main (loop $on (global.set $g (i64.add (global.get $g) (i64.const 1))) (br $on)))
