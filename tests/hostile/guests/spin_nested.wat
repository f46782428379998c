;; Loops in loops, each of which never ends.
(func $main
  (loop $a (loop $b (loop $c (loop $d (loop $e (loop $f
    (br_if $a (i32.const 0)) (br_if $b (i32.const 0)) (br_if $c (i32.const 0)) (br $f))))))))
