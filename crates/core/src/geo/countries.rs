//! Countries: names, continents, and a centre for databases that know only the country.
//!
//! A centre stands for where the country's users are, not for its outline: it is weighted by
//! population, roughly and by hand, so Canada's lies in southern Ontario and Egypt's at Cairo.
//! Two decimals of a degree (about a kilometre) for islands and cities, one for the rest.
//!
//! The table holds every code of ISO 3166-1 alpha-2 and, because geo databases use it, the
//! user-assigned `XK` for Kosovo.

use super::{CountryCode, Position};

/// A continent, as geo databases divide the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Continent {
    /// `AF`
    Africa,
    /// `AN`
    Antarctica,
    /// `AS`
    Asia,
    /// `EU`
    Europe,
    /// `NA`
    NorthAmerica,
    /// `OC`
    Oceania,
    /// `SA`
    SouthAmerica,
}

impl Continent {
    /// The two letters that geo databases use.
    pub fn code(self) -> &'static str {
        match self {
            Continent::Africa => "AF",
            Continent::Antarctica => "AN",
            Continent::Asia => "AS",
            Continent::Europe => "EU",
            Continent::NorthAmerica => "NA",
            Continent::Oceania => "OC",
            Continent::SouthAmerica => "SA",
        }
    }
}

/// One country or territory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Country {
    code: [u8; 2],
    /// Short English name.
    pub name: &'static str,
    /// Latitude of the centre in degrees.
    pub lat: f32,
    /// Longitude of the centre in degrees.
    pub lon: f32,
    /// The continent most of its people live on.
    pub continent: Continent,
}

impl Country {
    /// Its ISO 3166-1 alpha-2 code.
    pub fn code(&self) -> CountryCode {
        CountryCode(self.code)
    }

    /// Its centre as a point.
    pub fn centre(&self) -> Option<Position> {
        Position::from_degrees(self.lat.into(), self.lon.into())
    }
}

/// The country with this code; `None` when no country has it.
pub fn find(code: CountryCode) -> Option<&'static Country> {
    COUNTRIES.binary_search_by_key(&code.0, |c| c.code).ok().map(|at| &COUNTRIES[at])
}

/// The centre of a country; `None` when no country has the code.
pub fn centre(code: CountryCode) -> Option<Position> {
    find(code).and_then(Country::centre)
}

/// All countries, ascending by code.
pub fn all() -> &'static [Country] {
    &COUNTRIES
}

const fn country(code: &[u8; 2], name: &'static str, lat: f32, lon: f32, continent: Continent) -> Country {
    Country { code: *code, name, lat, lon, continent }
}

use Continent::{
    Africa as AF, Antarctica as AN, Asia as AS, Europe as EU, NorthAmerica as NA, Oceania as OC,
    SouthAmerica as SA,
};

// A table reads as one: a country a line.
#[rustfmt::skip]
static COUNTRIES: [Country; 250] = [
    country(b"AD", "Andorra", 42.51, 1.52, EU),
    country(b"AE", "United Arab Emirates", 25.0, 55.2, AS),
    country(b"AF", "Afghanistan", 34.5, 68.0, AS),
    country(b"AG", "Antigua and Barbuda", 17.12, -61.85, NA),
    country(b"AI", "Anguilla", 18.22, -63.06, NA),
    country(b"AL", "Albania", 41.2, 19.9, EU),
    country(b"AM", "Armenia", 40.2, 44.5, AS),
    country(b"AO", "Angola", -9.5, 14.5, AF),
    country(b"AQ", "Antarctica", -77.85, 166.67, AN),
    country(b"AR", "Argentina", -34.0, -60.5, SA),
    country(b"AS", "American Samoa", -14.31, -170.7, OC),
    country(b"AT", "Austria", 47.9, 15.2, EU),
    country(b"AU", "Australia", -33.5, 147.5, OC),
    country(b"AW", "Aruba", 12.51, -69.98, NA),
    country(b"AX", "Åland Islands", 60.13, 19.94, EU),
    country(b"AZ", "Azerbaijan", 40.4, 48.9, AS),
    country(b"BA", "Bosnia and Herzegovina", 44.2, 18.0, EU),
    country(b"BB", "Barbados", 13.13, -59.58, NA),
    country(b"BD", "Bangladesh", 23.8, 90.3, AS),
    country(b"BE", "Belgium", 50.85, 4.4, EU),
    country(b"BF", "Burkina Faso", 12.3, -1.6, AF),
    country(b"BG", "Bulgaria", 42.65, 24.3, EU),
    country(b"BH", "Bahrain", 26.19, 50.55, AS),
    country(b"BI", "Burundi", -3.3, 29.8, AF),
    country(b"BJ", "Benin", 6.8, 2.3, AF),
    country(b"BL", "Saint Barthélemy", 17.9, -62.84, NA),
    country(b"BM", "Bermuda", 32.3, -64.78, NA),
    country(b"BN", "Brunei Darussalam", 4.87, 114.88, AS),
    country(b"BO", "Bolivia", -17.1, -66.2, SA),
    country(b"BQ", "Bonaire, Sint Eustatius and Saba", 12.16, -68.28, NA),
    country(b"BR", "Brazil", -20.5, -46.0, SA),
    country(b"BS", "Bahamas", 25.04, -77.4, NA),
    country(b"BT", "Bhutan", 27.3, 89.9, AS),
    country(b"BV", "Bouvet Island", -54.42, 3.36, AN),
    country(b"BW", "Botswana", -24.0, 26.0, AF),
    country(b"BY", "Belarus", 53.8, 27.8, EU),
    country(b"BZ", "Belize", 17.3, -88.5, NA),
    country(b"CA", "Canada", 45.0, -78.0, NA),
    country(b"CC", "Cocos (Keeling) Islands", -12.17, 96.83, AS),
    country(b"CD", "Democratic Republic of the Congo", -4.6, 18.0, AF),
    country(b"CF", "Central African Republic", 4.8, 18.3, AF),
    country(b"CG", "Congo", -4.3, 14.5, AF),
    country(b"CH", "Switzerland", 47.15, 8.1, EU),
    country(b"CI", "Côte d'Ivoire", 6.0, -4.7, AF),
    country(b"CK", "Cook Islands", -21.21, -159.78, OC),
    country(b"CL", "Chile", -33.9, -71.0, SA),
    country(b"CM", "Cameroon", 4.5, 10.9, AF),
    country(b"CN", "China", 32.5, 113.5, AS),
    country(b"CO", "Colombia", 5.3, -74.6, SA),
    country(b"CR", "Costa Rica", 9.95, -84.1, NA),
    country(b"CU", "Cuba", 22.3, -80.2, NA),
    country(b"CV", "Cabo Verde", 15.0, -23.6, AF),
    country(b"CW", "Curaçao", 12.13, -68.93, NA),
    country(b"CX", "Christmas Island", -10.43, 105.68, AS),
    country(b"CY", "Cyprus", 35.0, 33.2, AS),
    country(b"CZ", "Czechia", 49.8, 15.3, EU),
    country(b"DE", "Germany", 50.8, 9.5, EU),
    country(b"DJ", "Djibouti", 11.57, 43.1, AF),
    country(b"DK", "Denmark", 55.8, 11.2, EU),
    country(b"DM", "Dominica", 15.32, -61.38, NA),
    country(b"DO", "Dominican Republic", 18.7, -70.1, NA),
    country(b"DZ", "Algeria", 36.1, 3.3, AF),
    country(b"EC", "Ecuador", -1.4, -79.2, SA),
    country(b"EE", "Estonia", 59.2, 25.2, EU),
    country(b"EG", "Egypt", 29.9, 31.2, AF),
    country(b"EH", "Western Sahara", 27.14, -13.19, AF),
    country(b"ER", "Eritrea", 15.32, 38.92, AF),
    country(b"ES", "Spain", 39.8, -3.2, EU),
    country(b"ET", "Ethiopia", 9.0, 39.0, AF),
    country(b"FI", "Finland", 61.2, 24.7, EU),
    country(b"FJ", "Fiji", -17.9, 178.1, OC),
    country(b"FK", "Falkland Islands", -51.7, -57.85, SA),
    country(b"FM", "Micronesia", 6.92, 158.16, OC),
    country(b"FO", "Faroe Islands", 62.01, -6.78, EU),
    country(b"FR", "France", 47.4, 2.5, EU),
    country(b"GA", "Gabon", 0.1, 9.8, AF),
    country(b"GB", "United Kingdom", 52.5, -1.3, EU),
    country(b"GD", "Grenada", 12.06, -61.74, NA),
    country(b"GE", "Georgia", 41.9, 44.0, AS),
    country(b"GF", "French Guiana", 4.93, -52.33, SA),
    country(b"GG", "Guernsey", 49.46, -2.56, EU),
    country(b"GH", "Ghana", 6.3, -1.0, AF),
    country(b"GI", "Gibraltar", 36.14, -5.35, EU),
    country(b"GL", "Greenland", 64.18, -51.72, NA),
    country(b"GM", "Gambia", 13.42, -16.6, AF),
    country(b"GN", "Guinea", 9.9, -12.5, AF),
    country(b"GP", "Guadeloupe", 16.22, -61.55, NA),
    country(b"GQ", "Equatorial Guinea", 3.1, 9.3, AF),
    country(b"GR", "Greece", 38.6, 23.2, EU),
    country(b"GS", "South Georgia and the South Sandwich Islands", -54.28, -36.51, AN),
    country(b"GT", "Guatemala", 14.8, -90.7, NA),
    country(b"GU", "Guam", 13.46, 144.78, OC),
    country(b"GW", "Guinea-Bissau", 11.9, -15.4, AF),
    country(b"GY", "Guyana", 6.6, -58.1, SA),
    country(b"HK", "Hong Kong", 22.34, 114.16, AS),
    country(b"HM", "Heard Island and McDonald Islands", -53.08, 73.5, AN),
    country(b"HN", "Honduras", 14.8, -87.2, NA),
    country(b"HR", "Croatia", 45.4, 16.2, EU),
    country(b"HT", "Haiti", 18.8, -72.4, NA),
    country(b"HU", "Hungary", 47.3, 19.3, EU),
    country(b"ID", "Indonesia", -6.6, 108.5, AS),
    country(b"IE", "Ireland", 53.2, -6.9, EU),
    country(b"IL", "Israel", 32.0, 34.9, AS),
    country(b"IM", "Isle of Man", 54.16, -4.49, EU),
    country(b"IN", "India", 22.5, 79.5, AS),
    country(b"IO", "British Indian Ocean Territory", -7.31, 72.41, AS),
    country(b"IQ", "Iraq", 33.3, 44.2, AS),
    country(b"IR", "Iran", 34.5, 51.5, AS),
    country(b"IS", "Iceland", 64.2, -21.5, EU),
    country(b"IT", "Italy", 43.0, 11.9, EU),
    country(b"JE", "Jersey", 49.19, -2.11, EU),
    country(b"JM", "Jamaica", 18.1, -77.1, NA),
    country(b"JO", "Jordan", 32.0, 35.9, AS),
    country(b"JP", "Japan", 35.6, 137.8, AS),
    country(b"KE", "Kenya", -0.7, 36.7, AF),
    country(b"KG", "Kyrgyzstan", 41.9, 73.8, AS),
    country(b"KH", "Cambodia", 11.9, 104.9, AS),
    country(b"KI", "Kiribati", 1.33, 172.98, OC),
    country(b"KM", "Comoros", -11.85, 43.45, AF),
    country(b"KN", "Saint Kitts and Nevis", 17.3, -62.73, NA),
    country(b"KP", "Democratic People's Republic of Korea", 39.3, 126.2, AS),
    country(b"KR", "Republic of Korea", 36.7, 127.5, AS),
    country(b"KW", "Kuwait", 29.32, 47.99, AS),
    country(b"KY", "Cayman Islands", 19.3, -81.35, NA),
    country(b"KZ", "Kazakhstan", 46.5, 72.5, AS),
    country(b"LA", "Laos", 17.6, 103.5, AS),
    country(b"LB", "Lebanon", 33.9, 35.6, AS),
    country(b"LC", "Saint Lucia", 13.95, -60.98, NA),
    country(b"LI", "Liechtenstein", 47.15, 9.53, EU),
    country(b"LK", "Sri Lanka", 7.0, 80.2, AS),
    country(b"LR", "Liberia", 6.4, -10.4, AF),
    country(b"LS", "Lesotho", -29.3, 27.7, AF),
    country(b"LT", "Lithuania", 55.2, 24.2, EU),
    country(b"LU", "Luxembourg", 49.6, 6.12, EU),
    country(b"LV", "Latvia", 56.9, 24.4, EU),
    country(b"LY", "Libya", 32.4, 15.0, AF),
    country(b"MA", "Morocco", 33.2, -6.9, AF),
    country(b"MC", "Monaco", 43.74, 7.42, EU),
    country(b"MD", "Moldova", 47.1, 28.7, EU),
    country(b"ME", "Montenegro", 42.5, 19.2, EU),
    country(b"MF", "Saint Martin", 18.07, -63.06, NA),
    country(b"MG", "Madagascar", -19.2, 47.2, AF),
    country(b"MH", "Marshall Islands", 7.11, 171.18, OC),
    country(b"MK", "North Macedonia", 41.9, 21.4, EU),
    country(b"ML", "Mali", 13.0, -7.2, AF),
    country(b"MM", "Myanmar", 18.9, 96.2, AS),
    country(b"MN", "Mongolia", 47.9, 106.7, AS),
    country(b"MO", "Macao", 22.19, 113.55, AS),
    country(b"MP", "Northern Mariana Islands", 15.19, 145.75, OC),
    country(b"MQ", "Martinique", 14.63, -61.02, NA),
    country(b"MR", "Mauritania", 17.6, -14.2, AF),
    country(b"MS", "Montserrat", 16.79, -62.2, NA),
    country(b"MT", "Malta", 35.9, 14.46, EU),
    country(b"MU", "Mauritius", -20.22, 57.52, AF),
    country(b"MV", "Maldives", 4.18, 73.51, AS),
    country(b"MW", "Malawi", -14.2, 34.5, AF),
    country(b"MX", "Mexico", 20.4, -99.9, NA),
    country(b"MY", "Malaysia", 3.6, 102.0, AS),
    country(b"MZ", "Mozambique", -19.0, 35.5, AF),
    country(b"NA", "Namibia", -20.5, 17.0, AF),
    country(b"NC", "New Caledonia", -22.15, 166.45, OC),
    country(b"NE", "Niger", 13.7, 5.5, AF),
    country(b"NF", "Norfolk Island", -29.05, 167.95, OC),
    country(b"NG", "Nigeria", 8.6, 6.6, AF),
    country(b"NI", "Nicaragua", 12.4, -86.1, NA),
    country(b"NL", "Netherlands", 52.1, 5.1, EU),
    country(b"NO", "Norway", 60.6, 9.4, EU),
    country(b"NP", "Nepal", 27.5, 84.9, AS),
    country(b"NR", "Nauru", -0.53, 166.93, OC),
    country(b"NU", "Niue", -19.06, -169.92, OC),
    country(b"NZ", "New Zealand", -39.2, 174.7, OC),
    country(b"OM", "Oman", 23.3, 57.8, AS),
    country(b"PA", "Panama", 8.9, -79.8, NA),
    country(b"PE", "Peru", -11.3, -76.4, SA),
    country(b"PF", "French Polynesia", -17.54, -149.57, OC),
    country(b"PG", "Papua New Guinea", -6.4, 145.9, OC),
    country(b"PH", "Philippines", 13.4, 121.9, AS),
    country(b"PK", "Pakistan", 30.6, 71.6, AS),
    country(b"PL", "Poland", 51.8, 19.3, EU),
    country(b"PM", "Saint Pierre and Miquelon", 46.78, -56.18, NA),
    country(b"PN", "Pitcairn", -25.07, -130.1, OC),
    country(b"PR", "Puerto Rico", 18.35, -66.2, NA),
    country(b"PS", "State of Palestine", 31.8, 35.0, AS),
    country(b"PT", "Portugal", 39.8, -8.6, EU),
    country(b"PW", "Palau", 7.37, 134.52, OC),
    country(b"PY", "Paraguay", -25.4, -56.7, SA),
    country(b"QA", "Qatar", 25.29, 51.48, AS),
    country(b"RE", "Réunion", -21.1, 55.5, AF),
    country(b"RO", "Romania", 45.5, 25.4, EU),
    country(b"RS", "Serbia", 44.6, 20.6, EU),
    country(b"RU", "Russian Federation", 55.0, 44.0, EU),
    country(b"RW", "Rwanda", -1.95, 30.0, AF),
    country(b"SA", "Saudi Arabia", 24.0, 44.5, AS),
    country(b"SB", "Solomon Islands", -9.2, 159.9, OC),
    country(b"SC", "Seychelles", -4.63, 55.46, AF),
    country(b"SD", "Sudan", 14.6, 32.4, AF),
    country(b"SE", "Sweden", 58.7, 15.6, EU),
    country(b"SG", "Singapore", 1.33, 103.83, AS),
    country(b"SH", "Saint Helena, Ascension and Tristan da Cunha", -15.94, -5.71, AF),
    country(b"SI", "Slovenia", 46.2, 14.9, EU),
    country(b"SJ", "Svalbard and Jan Mayen", 78.22, 15.64, EU),
    country(b"SK", "Slovakia", 48.6, 19.0, EU),
    country(b"SL", "Sierra Leone", 8.4, -12.3, AF),
    country(b"SM", "San Marino", 43.94, 12.45, EU),
    country(b"SN", "Senegal", 14.5, -16.3, AF),
    country(b"SO", "Somalia", 4.2, 45.0, AF),
    country(b"SR", "Suriname", 5.8, -55.2, SA),
    country(b"SS", "South Sudan", 6.6, 31.0, AF),
    country(b"ST", "Sao Tome and Principe", 0.33, 6.73, AF),
    country(b"SV", "El Salvador", 13.7, -89.1, NA),
    country(b"SX", "Sint Maarten", 18.04, -63.05, NA),
    country(b"SY", "Syrian Arab Republic", 34.8, 37.2, AS),
    country(b"SZ", "Eswatini", -26.4, 31.4, AF),
    country(b"TC", "Turks and Caicos Islands", 21.78, -72.22, NA),
    country(b"TD", "Chad", 11.7, 16.3, AF),
    country(b"TF", "French Southern Territories", -49.35, 70.22, AN),
    country(b"TG", "Togo", 7.0, 1.1, AF),
    country(b"TH", "Thailand", 14.4, 101.0, AS),
    country(b"TJ", "Tajikistan", 38.5, 69.0, AS),
    country(b"TK", "Tokelau", -9.17, -171.82, OC),
    country(b"TL", "Timor-Leste", -8.6, 125.8, AS),
    country(b"TM", "Turkmenistan", 38.6, 59.5, AS),
    country(b"TN", "Tunisia", 36.0, 10.0, AF),
    country(b"TO", "Tonga", -21.14, -175.2, OC),
    country(b"TR", "Türkiye", 39.7, 31.9, AS),
    country(b"TT", "Trinidad and Tobago", 10.5, -61.35, NA),
    country(b"TV", "Tuvalu", -8.52, 179.2, OC),
    country(b"TW", "Taiwan", 24.4, 121.0, AS),
    country(b"TZ", "Tanzania", -6.0, 36.5, AF),
    country(b"UA", "Ukraine", 49.2, 31.2, EU),
    country(b"UG", "Uganda", 0.6, 32.3, AF),
    country(b"UM", "United States Minor Outlying Islands", 19.28, 166.65, OC),
    country(b"US", "United States", 38.0, -90.0, NA),
    country(b"UY", "Uruguay", -34.5, -56.0, SA),
    country(b"UZ", "Uzbekistan", 40.6, 67.5, AS),
    country(b"VA", "Holy See", 41.9, 12.45, EU),
    country(b"VC", "Saint Vincent and the Grenadines", 13.16, -61.22, NA),
    country(b"VE", "Venezuela", 9.9, -67.8, SA),
    country(b"VG", "British Virgin Islands", 18.43, -64.62, NA),
    country(b"VI", "United States Virgin Islands", 18.0, -64.8, NA),
    country(b"VN", "Viet Nam", 16.0, 106.5, AS),
    country(b"VU", "Vanuatu", -17.0, 168.0, OC),
    country(b"WF", "Wallis and Futuna", -13.28, -176.18, OC),
    country(b"WS", "Samoa", -13.85, -171.8, OC),
    country(b"XK", "Kosovo", 42.6, 21.0, EU),
    country(b"YE", "Yemen", 14.6, 44.6, AS),
    country(b"YT", "Mayotte", -12.8, 45.2, AF),
    country(b"ZA", "South Africa", -27.6, 28.4, AF),
    country(b"ZM", "Zambia", -14.0, 28.3, AF),
    country(b"ZW", "Zimbabwe", -18.6, 30.8, AF),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_and_every_centre_is_a_point() {
        assert!(COUNTRIES.windows(2).all(|w| w[0].code < w[1].code));
        for country in all() {
            assert!(country.code.iter().all(u8::is_ascii_uppercase), "{}", country.name);
            assert!(country.centre().is_some(), "{}", country.name);
            assert!(!country.name.is_empty());
            assert_eq!(find(country.code()), Some(country));
        }
        // ISO 3166-1 has 249 codes; one more is Kosovo's.
        assert_eq!(all().len(), 250);
    }

    #[test]
    fn centres_lie_near_cities_their_people_live_around() {
        // (code, a large city's latitude and longitude, within this many kilometres)
        let near = [
            ("GB", 51.51, -0.13, 250.0),
            ("CA", 43.65, -79.38, 250.0),
            ("AU", -33.87, 151.21, 500.0),
            ("BR", -23.55, -46.63, 500.0),
            ("RU", 55.75, 37.62, 600.0),
            ("EG", 30.04, 31.24, 100.0),
            ("JP", 35.68, 139.69, 300.0),
            ("ZA", -26.20, 28.05, 300.0),
            ("FJ", -18.14, 178.44, 100.0),
            ("US", 38.63, -90.20, 200.0),
            ("SG", 1.29, 103.85, 50.0),
            ("NZ", -36.85, 174.76, 400.0),
        ];
        for (code, lat, lon, within_km) in near {
            let city = Position::from_degrees(lat, lon).unwrap();
            let km = centre(CountryCode::new(code).unwrap()).unwrap().distance_km(city);
            assert!(km < within_km, "{code}: {km} km");
        }
    }

    #[test]
    fn names_and_continents_are_known_and_others_are_not() {
        let of = |code| find(CountryCode::new(code).unwrap());
        assert_eq!(of("de").map(|c| (c.name, c.continent.code())), Some(("Germany", "EU")));
        assert_eq!(of("KE").map(|c| c.continent), Some(Continent::Africa));
        assert_eq!(of("AQ").map(|c| c.continent.code()), Some("AN"));
        // "EU" and "AP" are what old databases say for "somewhere there"; "ZZ" is nobody.
        for none in ["EU", "AP", "ZZ", "XX", "AA"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
