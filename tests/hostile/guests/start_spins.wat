;; A start function runs as the module is instantiated.
(start $first)
(func $first (loop $on (br $on)))
(func $main)
