;; A whole answer, and then no end.
(func $main (call $say (i32.const 1)) (call $answer) (loop $on (br $on)))
