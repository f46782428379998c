;; Two answers.
(func $main (call $say (i32.const 1)) (call $answer) (call $answer))
