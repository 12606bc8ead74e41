-- Who had the highest bid of an auction when it closed?
--
-- No clock says when an auction is over; a close record does. The window of an auction ends with it.
-- The auction 3 never closes and has no answer, until a punctuation promises that no bid will follow.
CREATE STREAM IF NOT EXISTS bids (auction BIGINT, kind TEXT, bidder TEXT, amount NUMERIC(10, 2));

CREATE CONTINUOUS QUERY auction_results AS
    SELECT auction, window_id, window_reason,
        first_value(bidder ORDER BY amount DESC) FILTER (WHERE kind = 'bid') AS winner,
        max(amount) AS price, count(amount) AS bids
    FROM PUNCTUATION_WINDOW(bids, PARTITION => auction, END => kind = 'close')
    GROUP BY auction, window_id, window_reason;

INSERT INTO bids VALUES
    (1, 'bid', 'ada', 10.00), (2, 'bid', 'bob', 99.50), (1, 'bid', 'cyd', 12.50), (3, 'bid', 'ada', 1.00),
    (1, 'bid', 'ada', 12.00), (2, 'close', NULL, NULL), (3, 'bid', 'cyd', 2.00), (1, 'close', NULL, NULL);
PUNCTUATE bids WHERE auction = 3;
FLUSH;
SELECT auction, winner, price, bids, window_reason FROM auction_results ORDER BY auction;

-- Answer:
-- | auction | winner | price | bids | window_reason |
-- | 1 | cyd | 12.50 | 3 | end |
-- | 2 | bob | 99.50 | 1 | end |
-- | 3 | cyd | 2.00 | 2 | punctuation |
