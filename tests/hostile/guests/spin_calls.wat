;; Calls without end, without recursion.
(func $nothing)
(func $main (loop $on (call $nothing) (call $nothing) (br $on)))
