(func $main (loop $on (drop (call $sched_yield)) (br $on)))
