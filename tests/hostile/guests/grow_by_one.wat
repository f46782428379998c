;; Page by page to the bound, then a trap.
(func $main (loop $on (br_if $on (i32.ne (i32.const -1) (memory.grow (i32.const 1))))) unreachable)
